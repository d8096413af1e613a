"""Logs of Inspect (inspect.aisi.org.uk): `.eval`, a zip of JSON that newer versions compress by Zstandard, or `.json`.

Items are paired by sample id. An item's value is the mean over its epochs; `C`, `P`, `I` and `N` (no answer) are 1,
0.5, 0 and 0 and yes/no words 1 and 0, as in Inspect's own metrics, so that means agree with what Inspect shows. A
sample without a score (an error, a limit, an unscored answer) is missing. A scorer with several values gives
`scorer/value`. The claim is the first scorer's first value. More is taken to be better: a log does not say, but for
those of our own tasks, which also name clusters and settings.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from preftrace.errors import DataError
from preftrace.evaluate.logs._log import Gathered, Log, build, column, labels, number

PATTERNS = ("*.eval", "*.json")
ZSTANDARD = 93
"""Zip's number of the method (APPNOTE 4.4.5); Python reads it since 3.14."""
LOCAL_HEADER = struct.Struct("<26xHH")
WORDS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
SPOKEN = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}


def looks_like(path: Path) -> bool:
    """Whether a JSON file starts as a log of Inspect does."""
    with open(path, "rb") as file:
        start = file.read(4096)
    return b'"version"' in start and b'"eval"' in start and b'"status"' in start


def task(path: Path, header: Mapping[str, Any] | None = None) -> str:
    """The task that a log is of, without the name of its package."""
    return str((header or _header(path))["eval"].get("task", path.stem)).rpartition("/")[2]


def read(path: Path) -> Log:
    """A log's samples.

    Raises:
        DataError: no log of Inspect, or one that did not finish.
    """
    header = _header(path)
    if header.get("status") != "success":
        raise DataError(f"{path} is a log with status '{header.get('status')}'. Finish it first: inspect eval-retry.")
    gathered: dict[str, Gathered] = {}
    measures: dict[str, None] = {}
    for sample in _samples(path):
        if not isinstance(sample, dict) or "id" not in sample:
            raise DataError(f"{path}: a sample has no id. Write the log with its samples.")
        values = dict(_values(sample.get("scores")))
        told = Gathered(_prompt(sample.get("input")), labels(sample.get("metadata")))
        item = gathered.setdefault(str(sample["id"]), told)
        item.add(values)
        measures |= dict.fromkeys(map(column, values))
    for item in gathered.values():
        for name in measures:  # a sample that failed has no scores at all
            item.values.setdefault(name, []).append(float("nan"))
    said = _mapping(header["eval"].get("metadata"))
    better = _mapping(said.get("higher_is_better"))
    lower = frozenset(name for name in measures if better.get(name.rpartition("/")[2]) is False)
    settings = {"samples": _mapping(header["eval"].get("config")).get("epochs", 1), **_mapping(said.get("settings"))}
    config = {"options": settings, "vertical_version": header["eval"].get("task_version")}
    return build(path, task(path, header), gathered, list(measures), lower, config)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _values(scores: Any) -> Iterator[tuple[str, float]]:
    for scorer, score in _mapping(scores).items():
        value = _mapping(score).get("value")
        parts = {f"{scorer}/{key}": part for key, part in value.items()} if isinstance(value, dict) else {scorer: value}
        for name, part in parts.items():
            found = _number(part)
            if found is not None:
                yield name, found


def _number(value: Any) -> float | None:
    if not isinstance(value, str):
        return number(value)
    if value in WORDS:
        return WORDS[value]
    if value.lower() in SPOKEN:
        return SPOKEN[value.lower()]
    try:
        return number(float(value))
    except ValueError:
        return None


def _prompt(text: Any) -> str:
    """A hash of what was asked; messages by role and content, since their ids are drawn anew in every run."""
    if isinstance(text, list):
        text = [[m.get("role"), m.get("content")] if isinstance(m, dict) else m for m in text]
    return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()


def _header(path: Path) -> dict[str, Any]:
    if path.suffix == ".eval":
        with _opened(path) as archive:
            names = archive.namelist()
            if "header.json" not in names:
                raise DataError(f"{path} has no header: the evaluation did not finish. Finish it: inspect eval-retry.")
            header = _member(archive, path, "header.json")
    else:
        header = _whole(path)
    if not isinstance(header, dict) or not isinstance(header.get("eval"), dict):
        raise DataError(
            f"{path} is no log of Inspect. Name an .eval or .json that it wrote, or an lm-eval samples_*.jsonl."
        )
    return header


def _samples(path: Path) -> Iterator[Any]:
    if path.suffix != ".eval":
        yield from _whole(path).get("samples") or []
        return
    with _opened(path) as archive:
        for name in archive.namelist():
            if name.startswith("samples/") and name.endswith(".json"):
                yield _member(archive, path, name)


def _whole(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}.") from error


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be opened as an .eval log ({error}). Was it copied whole?") from error


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> Any:
    """One file of the archive as JSON."""
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, ZSTANDARD):
        raise DataError(f"{path}: {name} is compressed by zip's method {info.compress_type}, which no Inspect writes.")
    try:
        data = _unpacked(archive, info) if info.compress_type == ZSTANDARD else archive.read(info)
        return json.loads(data)
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, struct.error) as error:
        raise DataError(f"{path}: {name} cannot be read ({error}). Was the log copied whole?") from error


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member that Zstandard compressed, in one frame or several, through pyarrow's codec.

    Raises:
        OSError: it is damaged.
    """
    import pyarrow as pa

    file: IO[bytes] | None = archive.fp
    assert file is not None, "the archive is open"
    file.seek(info.header_offset)
    name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    file.seek(name + extra, 1)
    packed = pa.py_buffer(file.read(info.compress_size))
    data: bytes = pa.CompressedInputStream(pa.BufferReader(packed), "zstd").read()
    if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
        raise OSError("its length or checksum is wrong")
    return data
