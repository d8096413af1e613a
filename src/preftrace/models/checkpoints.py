"""What a model is, as names and hashes: checkpoints on disk and fingerprints of weights. Imports no torch."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from preftrace import artifacts
from preftrace.errors import ModelError
from preftrace.types import Checkpoint

CHECKPOINT = "checkpoint.json"
IDENTITY_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


class Located(NamedTuple):
    """Where a model's files are: a folder or a Hub id, and the Hub's commit (None for a folder)."""

    source: str
    revision: str | None


def locate(model: str) -> Located:
    """Find what `model` names: `starter`, a local folder, or a Hub id, optionally `owner/name@revision`.

    Raises:
        ModelError: a folder that is not a model's, or a name that is neither.
    """
    if model == "starter":
        from preftrace.models.starter import starter_folder

        return Located(str(starter_folder()), None)
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"{folder} is not a model folder: it has no config.json. Name a folder saved by transformers."
            )
        if not any(folder.glob("*.safetensors")):
            raise ModelError(
                f"{folder} has no *.safetensors weights. Save the model with safetensors; pickled weights are not read."
            )
        return Located(str(folder.resolve()), None)
    name, _, revision = model.partition("@")
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        raise ModelError(
            f"no model '{model}': it is not an existing folder, not a Hub id (owner/name), and not 'starter'."
        )
    # The commit is settled here, so that what is loaded is what was hashed, whatever is pushed meanwhile.
    return Located(name, _commit(name, revision or "main"))


def fingerprint(model: str) -> str:
    """Content hash of a model: of its files in a folder, or the Hub's commit.

    Raises:
        ModelError: the model cannot be found.
    """
    source, revision = locate(model)
    if model == "starter":
        # Our own cache: hashed when it was made, so that a run that has nothing to do reads no weights.
        return str(artifacts.read_json(Path(source) / "fingerprint.json")["sha256"])
    return _folder_hash(Path(source)) if revision is None else f"{source}@{revision}"


def checkpoint_hash(checkpoint: Checkpoint) -> str:
    """Content hash of a checkpoint: the starting model's and every adapter's files."""
    return artifacts.hash_json([fingerprint(checkpoint.model), [_folder_hash(Path(a)) for a in checkpoint.adapters]])


def write_checkpoint(
    folder: Path, checkpoint: Checkpoint, final: Path | None = None, within: Path | None = None
) -> None:
    """Write `checkpoint.json`; what lies beside where the folder will lie (`final`) is named from there.

    A run can be moved as a whole; what is outside it keeps its absolute path. `within` is the folder that moves with
    all that it holds: where it is not said, the one that `final` lies in.
    """
    home = (final or folder).resolve()
    root = (within or home.parent).resolve()
    inside, *adapters = (_from_home(path, home, root) for path in (checkpoint.model, *checkpoint.adapters))
    artifacts.write_json(folder / CHECKPOINT, {"model": inside, "adapters": adapters})


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint of a finished stage.

    Raises:
        ModelError: no checkpoint there, or it names an adapter that is gone.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise ModelError(f"{folder} has no {CHECKPOINT}: it is not the folder of a finished training stage.")
    fields = artifacts.read_json(path)
    adapters = tuple(str((folder / a).resolve()) for a in fields["adapters"])
    for adapter in adapters:
        if not (Path(adapter) / "adapter_config.json").is_file():
            raise ModelError(f"{path} names the adapter {adapter}, which is gone. Run the study again.")
    model = fields["model"]
    if model.startswith("."):
        model = str((folder / model).resolve())
    return Checkpoint(model, adapters)


def resolve_checkpoint(name: str) -> Checkpoint:
    """What a user may name as a model: a finished training stage's folder, or any starting model."""
    folder = Path(name).expanduser()
    return read_checkpoint(folder) if (folder / CHECKPOINT).is_file() else Checkpoint(name)


def _from_home(path: str, home: Path, root: Path) -> str:
    if not Path(path).is_absolute() or not Path(path).is_relative_to(root):
        return path
    relative = os.path.relpath(path, home)
    return relative if relative.startswith(".") else f"./{relative}"


def _folder_hash(folder: Path) -> str:
    skipped = {artifacts.RECORD, "fingerprint.json"}
    files = sorted({p for pattern in IDENTITY_FILES for p in folder.glob(pattern) if p.name not in skipped})
    return artifacts.hash_json({p.name: artifacts.hash_file(p) for p in files})


@lru_cache
def _commit(repo: str, revision: str) -> str:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import repo_folder_name

    cached = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
    if (cached / "snapshots" / revision).is_dir():
        return revision
    if (reference := cached / "refs" / revision).is_file():
        return reference.read_text().strip()
    try:
        return str(HfApi().model_info(repo, revision=revision).sha)
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(f"cannot find the model '{repo}' ({revision}) on the Hub or in its cache: {error}") from error
