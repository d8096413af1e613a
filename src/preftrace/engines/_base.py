"""The contract between the work and where it runs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from preftrace import artifacts

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Shard = Mapping[str, Any]
"""One unit of work as JSON values. A shard's result depends on the worker's settings and on this, on nothing else."""
ShardOutput = Mapping[str, "pa.Table | Mapping[str, np.ndarray]"]
"""Name -> a table (written as Parquet) or a mapping of arrays (written as safetensors)."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What the work may use: speed, never results.

    Attributes:
        workers: processes that take shards.
        engine: where they run, by the name of a file in `engines/`.
    """

    workers: int = 1
    engine: str = "local"


class ShardWorker(Protocol):
    """Built once in each process from JSON settings, then given shards."""

    def run(self, shard: Shard) -> ShardOutput:
        """Compute one shard."""
        ...


class Engine(Protocol):
    """Runs work somewhere."""

    def run_group(self, function: str, config: Mapping[str, Any], resources: Resources) -> dict[str, Any]:
        """Call `function(config)` (on every rank of a training group) and return what rank 0 returned."""
        ...

    def map_shards(
        self, worker: str, init: Mapping[str, Any], shards: Sequence[Shard], out: Path, resources: Resources, label: str
    ) -> list[Path]:
        """Compute every shard into its own folder under `out`; finished shards are not computed again.

        Args:
            worker: importable name of a `ShardWorker` class.
            init: keyword arguments it is built with, JSON values.
            shards: the work, in the order in which results are returned.
            out: folder of the results and of their manifests.
            resources: what may be used.
            label: what the progress bar says.

        Returns:
            The shards' folders, in order: `read_shard` reads one.
        """
        ...


def resolve(name: str) -> Any:
    """The object that `package.module:attribute` names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def shard_folder(out: Path, index: int) -> Path:
    """Where shard number `index` lies."""
    return out / f"part-{index:05d}"


def shard_hash(worker: str, init: Mapping[str, Any], shard: Shard) -> str:
    """What a shard's result depends on; settings under `speed` change no result."""
    return artifacts.hash_json([worker, {key: value for key, value in init.items() if key != "speed"}, shard])


def is_done(out: Path, index: int, digest: str) -> bool:
    """Whether shard `index` is finished and was computed from the same worker, settings and shard."""
    manifest = shard_folder(out, index) / "manifest.json"
    if not manifest.is_file():
        return False
    said = artifacts.read_json(manifest)
    there = {path.stem for path in manifest.parent.iterdir()}
    return said["hash"] == digest and there.issuperset(said["outputs"])


def write_shard(out: Path, index: int, digest: str, output: ShardOutput) -> None:
    """Write one shard's result, its manifest last."""
    import pyarrow as pa

    folder = shard_folder(out, index)
    (folder / "manifest.json").unlink(missing_ok=True)
    for name, value in output.items():
        if isinstance(value, pa.Table):
            artifacts.write_table(folder / f"{name}.parquet", value)
        else:
            artifacts.write_tensors(folder / f"{name}.safetensors", value)
    artifacts.write_json(folder / "manifest.json", {"hash": digest, "outputs": sorted(output)})


def gather_tables(folders: Sequence[Path], name: str) -> pa.Table:
    """The tables called `name` of all shards, one after the other in shard order."""
    import pyarrow as pa

    return pa.concat_tables([artifacts.read_table(folder / f"{name}.parquet") for folder in folders])
