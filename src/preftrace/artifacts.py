"""The only writer of run folders: tables, tensors, JSON, and stages that are complete or not there at all.

A stage is worked on in `<folder>.partial/`, which starts with the identity of the work. When the work is done, every
file is hashed and synced, `record.json` is written last, and the folder is renamed into place. A killed stage leaves
its partial folder; the same identity resumes in it, another identity starts anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from preftrace.errors import ArtifactError
from preftrace.types import StageRecord

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

RECORD = "record.json"
IDENTITY = "_identity.json"
SCRATCH = "_"
"""Files and folders whose name starts with this are working files: removed when the stage completes."""


@dataclass(frozen=True, slots=True)
class StageSpec:
    """What a stage is made from; equal specs make equal results.

    Attributes:
        kind: what makes it.
        name: its name in the study (not part of the identity).
        version: VERSION of the code that makes it.
        config: settings without speed knobs, JSON values.
        inputs: name -> content hash.
    """

    kind: str
    name: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]

    @property
    def identity(self) -> str:
        """sha256 of everything above but the name."""
        return hash_json([self.kind, self.version, self.config, self.inputs])


def hash_json(value: Any) -> str:
    """sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_stage(
    folder: Path, spec: StageSpec, make: Callable[[Path], Mapping[str, Any]], anew: bool = False
) -> StageRecord:
    """Return the stage at `folder`, making it first unless it is there already with the same identity.

    Args:
        folder: where the finished stage lies.
        spec: what it is made from.
        make: writes the stage's files into the folder it is given (which may hold files of a killed run of the same
            identity) and returns the summary.
        anew: make it even so: what made it could not do all of it, such as a service that was down.

    Raises:
        ArtifactError: `folder` holds something that is not a stage, or cannot be written.
    """
    done = read_record(folder)
    if done is not None and done.identity == spec.identity and not anew:
        _sweep(folder)
        return done
    if done is not None and done.kind != spec.kind:
        raise ArtifactError(f"{folder} holds a '{done.kind}' stage; nothing was written over. Name another folder.")
    if done is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "is not empty and holds no record.json" if folder.is_dir() else "is a file"
        raise ArtifactError(f"{folder} {what}; nothing was written. Name another folder.")
    started = time.monotonic()
    work = _open_partial(folder, spec)
    summary = make(work)
    _complete(work, folder, spec, summary, time.monotonic() - started)
    record = read_record(folder)
    assert record is not None, f"{folder} was just written"
    return record


def read_record(folder: Path) -> StageRecord | None:
    """The record of a finished stage, or None where there is none.

    Raises:
        ArtifactError: the record is there and cannot be read, or a file that it names is gone.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        record = StageRecord(**fields, folder=folder)
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}). Delete {folder} to make it anew.") from error
    missing = [name for name in record.outputs if not (folder / name).is_file()]
    if missing:
        raise ArtifactError(f"{folder} lacks {', '.join(missing)}, which its record names. Delete it to make it anew.")
    return record


def _open_partial(folder: Path, spec: StageSpec) -> Path:
    work = folder.with_name(folder.name + ".partial")
    marker = work / IDENTITY
    try:
        if work.exists() and not (marker.is_file() and json.loads(marker.read_text()) == spec.identity):
            _discard(work)
        work.mkdir(parents=True, exist_ok=True)
        remove_temporaries(work)
        write_json(marker, spec.identity)
    except OSError as error:
        raise ArtifactError(f"cannot write {work}: {error}. Name a folder that can be written.") from error
    return work


def _discard(work: Path) -> None:
    """Remove the partial folder of other work; never a folder of that name that is not ours."""
    remove_temporaries(work)
    if any(work.iterdir()) and not (work / IDENTITY).is_file() and not (work / RECORD).is_file():
        raise ArtifactError(f"{work} is in the way and is no unfinished stage; nothing was written. Move it away.")
    shutil.rmtree(work)


def _complete(work: Path, folder: Path, spec: StageSpec, summary: Mapping[str, Any], seconds: float) -> None:
    kept = [p for p in work.rglob("*") if not p.relative_to(work).parts[0].startswith(SCRATCH)]
    files = sorted(p for p in kept if p.is_file() and p.name != RECORD)
    for path in files:
        _sync(path)
    outputs = {p.relative_to(work).as_posix(): hash_file(p) for p in files}
    record = {
        "kind": spec.kind,
        "name": spec.name,
        "version": spec.version,
        "identity": spec.identity,
        "config": _plain(spec.config),
        "inputs": dict(spec.inputs),
        "outputs": outputs,
        "content": hash_json([outputs, summary]),
        "summary": _plain(summary),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "versions": versions(),
    }
    write_json(work / RECORD, record)
    old = folder.with_name(f".{folder.name}.replaced")
    if (old / RECORD).is_file():
        shutil.rmtree(old)
    if folder.exists():
        os.replace(folder, old)
    os.replace(work, folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
    _sweep(folder)


def _sweep(folder: Path) -> None:
    """Remove a finished stage's working files: only now, since a kill half-way would leave torn ones to resume from."""
    for path in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def versions() -> dict[str, str]:
    """Versions of the libraries whose numbers these are, and of preftrace."""
    names = ("preftrace", "torch", "transformers", "peft", "trl", "accelerate", "numpy", "scipy", "pyarrow")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_json(path: Path, value: Any) -> None:
    """Write JSON (NaN as null) so that a reader sees all of it or nothing."""
    with replacing(path) as file:
        file.write(json.dumps(_plain(value), indent=2, ensure_ascii=False).encode() + b"\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file so that a reader sees all of it or nothing."""
    import pyarrow.parquet as pq

    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd")


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file; an ArtifactError where it is not whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}). Delete {path.parent} to make it anew.") from error


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file so that a reader sees all of it or nothing."""
    from safetensors.numpy import save

    with replacing(path) as file:
        file.write(save(dict(tensors)))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file."""
    from safetensors.numpy import load_file

    tensors: dict[str, np.ndarray] = load_file(path)
    return tensors


def read_tensor(path: Path, name: str) -> np.ndarray:
    """One tensor of a safetensors file: no other's bytes are read."""
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        tensor: np.ndarray = file.get_tensor(name)
    return tensor


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when the block ends well, synced to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Remove what a process that was killed inside `replacing` left anywhere in a folder that is ours alone."""
    for path in folder.rglob(".*.tmp"):
        path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(value: Any) -> Any:
    """`value` as plain JSON: NaN and infinities become None, tuples lists, dataclasses dicts."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | int | bool) or value is None:
        return value
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if hasattr(value, "item"):
        return _plain(value.item())
    raise TypeError(f"{type(value).__name__} is not JSON: {value!r}")
