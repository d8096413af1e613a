"""A model's weights as they lie on disk, one tensor at a time: safetensors, in one file or in shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from preftrace import artifacts
from preftrace.errors import ModelError
from preftrace.models.checkpoints import Located, locate

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of one model. A file is open only while a tensor is read, so that memory is that tensor's.

    Attributes:
        model: the model's name in messages.
        files: name of a tensor -> the file that holds it.
        shapes: name of a tensor -> its shape.
    """

    model: str
    files: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]

    def read(self, name: str) -> torch.Tensor:
        """One tensor, as it is stored.

        Raises:
            ModelError: it cannot be read, or is not stored as floating-point numbers.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.files[name], framework="pt") as file:
                tensor: torch.Tensor = file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot read {name} in {self.files[name]}: {error}") from error
        if not tensor.dtype.is_floating_point or tensor.element_size() < 2:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(f"{name} of '{self.model}' is stored as {kind}: quantised weights are not read here.")
        return tensor


def open_weights(model: str) -> Weights:
    """Find a model's tensors; reads names and shapes only (of a Hub model, downloads the files).

    Args:
        model: `starter`, a folder, or a Hub id.

    Raises:
        ModelError: there are no safetensors weights, or a shard is gone or broken.
    """
    place = locate(model)
    whole = _file(place, SINGLE)
    paths = {whole} if whole is not None else _shards(model, place)
    files: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(paths):
        for name, shape in _header(model, path).items():
            files[name], shapes[name] = path, shape
    return Weights(model, files, shapes)


def _shards(model: str, place: Located) -> set[Path]:
    index = _file(place, INDEX)
    if index is None:
        raise ModelError(
            f"'{model}' has neither {SINGLE} nor {INDEX} here or on the Hub. Save the model with safetensors; "
            "pickled weights (*.bin, *.pt) are not read, since reading them can run code."
        )
    try:
        names = sorted(set(artifacts.read_json(index)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is not the index of a sharded model: {error!r}") from error
    found = {name: _file(place, name) if Path(name).name == name else None for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing or not found:
        raise ModelError(f"{index} names {', '.join(missing) or 'no shard'}, which is not there: download it again.")
    return {path for path in found.values() if path is not None}


def _file(place: Located, name: str) -> Path | None:
    if place.revision is None:
        path = Path(place.source) / name
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        return Path(hf_hub_download(place.source, name, revision=place.revision))
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(f"cannot fetch {name} of '{place.source}' from the Hub: {error}") from error


def _header(model: str, path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot load the weights of '{model}': {path.name}: {error}") from error
