"""A store of pair gradients: one pass writes projected rows of every matrix; queries are products over them after that.

A store is a finished stage. Its record is the manifest: what it was made from, and the matrices' shapes. Its rows lie
in `part-*/`, a part for every `SHARD` pairs:

    rows.safetensors      matrix -> (m, D) in `store_dtype`;  int8: scales.safetensors, matrix -> (m,)
    norms.safetensors     norm2 (m, L), exact squared norms of the whole gradients
    shapes.safetensors    matrix -> its own shape, unprojected
    factors.safetensors   matrix/left (a, a) and matrix/right (b, b), sums over tokens of a gradient's two sides
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from preftrace import artifacts
from preftrace.attribute import quantise
from preftrace.attribute.methods._base import Block
from preftrace.attribute.projection import Projection, Shape
from preftrace.engines._base import shard_folder
from preftrace.errors import ArtifactError
from preftrace.types import StageRecord

KIND = "store"
ROWS, SCALES, NORMS, FACTORS, SHAPES = "rows", "scales", "norms", "factors", "shapes"


class Store:
    """A finished store, read matrix by matrix.

    Args:
        record: of the store's stage.

    Raises:
        ArtifactError: here or later, a part is not whole, such as that of a copy that was cut short.

    Attributes:
        shapes: matrix -> its own shape, unprojected, in the order in which `norm2` has them.
        norm2: `(n, L)`.
        finite: `(n,)` whether all of a pair's gradient is finite.
    """

    def __init__(self, record: StageRecord) -> None:
        self.record = record
        self.shapes: dict[str, Shape] = {name: (a, b) for name, (a, b) in record.summary["shapes"].items()}
        self.projection = Projection(record.config["projection"], record.config["seed"])
        self._parts = [shard_folder(record.folder, i) for i in range(record.summary["parts"])]
        norms = [_tensor(part / f"{NORMS}.safetensors", "norm2") for part in self._parts]
        self.norm2 = np.concatenate(norms)
        self.finite = np.isfinite(self.norm2).all(1)

    def rows(self, name: str) -> np.ndarray:
        """`(n, D)` float32 of a matrix; only its own bytes are read."""
        return np.concatenate([self._part(part, name) for part in self._parts])

    def _part(self, part: Path, name: str) -> np.ndarray:
        parts = {"values": _tensor(part / f"{ROWS}.safetensors", name)}
        if parts["values"].dtype == np.int8:
            parts["scales"] = _tensor(part / f"{SCALES}.safetensors", name)
        return quantise.decode(parts)

    def factors(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Second moments of the two sides, summed over the tokens of all pairs; None where it has none."""
        if not self.record.summary["factors"]:
            return None
        paths = [part / f"{FACTORS}.safetensors" for part in self._parts]
        left, right = (
            np.sum([_tensor(path, f"{name}/{side}") for path in paths], axis=0) for side in ("left", "right")
        )
        return left, right

    def block(self, name: str, query: np.ndarray) -> Block:
        """A matrix as the methods see it: its finite pairs, and queries `(Q, numel)` brought to its basis."""
        shape, column = self.shapes[name], list(self.shapes).index(name)
        projected = self.projection.apply(name, query, shape)
        return Block(
            rows=self.rows(name)[self.finite],
            query=projected,
            norm2=self.norm2[self.finite, column],
            size=shape[0] * shape[1],
            shape=self.projection.shape(shape),
            factors=self.factors(name),
        )


def _tensor(path: Path, name: str) -> np.ndarray:
    from safetensors import SafetensorError

    try:
        return artifacts.read_tensor(path, name)
    except (SafetensorError, OSError) as error:
        store = path.parent.parent
        raise ArtifactError(f"{path} cannot be read ({error}). Copy the store again, or delete {store}.") from error


def differences(record: StageRecord, spec: artifacts.StageSpec) -> list[str]:
    """What a store was made from otherwise than is asked for, in words; empty where it is the same."""
    there, asked = {**record.config, **record.inputs}, {**spec.config, **spec.inputs}
    named = {"stage": "the model", "pairs": "the pairs"}
    found = []
    for key in sorted(set(there) | set(asked)):
        if there.get(key) == asked.get(key):
            continue
        found += [named[key]] if key in named else _changed(key, there.get(key), asked.get(key))
    return found or (["the version"] if record.version != spec.version else [])


def _changed(key: str, there: object, asked: object) -> list[str]:
    if isinstance(there, Mapping) and isinstance(asked, Mapping):
        keys = sorted(set(there) | set(asked))
        changed = [k for k in keys if there.get(k) != asked.get(k)]
        return [word for k in changed for word in _changed(f"{key}.{k}", there.get(k), asked.get(k))]
    return [f"{key} ({there} there, {asked} asked for)"]


def refuse(folder: Path, spec: artifacts.StageSpec) -> None:
    """Stop where a folder that the user named holds a store of something else.

    Raises:
        ArtifactError: it names what differs.
    """
    record = artifacts.read_record(folder)
    if record is None or record.kind != KIND or record.identity == spec.identity:
        return
    what = ", ".join(differences(record, spec))
    raise ArtifactError(f"the store {folder} was made from something else: {what}. Name another folder, or delete it.")
