"""Rows out of JSON lines, JSON, CSV and Parquet files. Whatever cannot be read says where and why."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from preftrace.errors import DataError
from preftrace.preferences.rows import Material, Row, describe

LONGEST_FIELD = 2**27
"""Characters in one CSV field; the csv module's own limit of 131,072 is too short for some answers."""


def open_file(path: Path, shown: str | None = None) -> Material:
    """Read and hash a file; its rows are parsed when they are asked for.

    Args:
        path: a .jsonl, .json, .csv (each also .gz) or .parquet file.
        shown: how messages call it; its path when left out.

    Raises:
        DataError: it is not there, not a file of a known kind, cannot be read or is empty.
    """
    name = shown or str(path)
    parse = _parser(path, name)
    if not os.path.exists(path):
        raise DataError(f"{name}: no such file. Check the path.")
    if not os.path.isfile(path):
        raise DataError(f"{name} is not a file. Name a file.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}.") from error
    if not data:
        raise DataError(f"{name} is empty (0 bytes).")
    return Material(name, hashlib.sha256(data).hexdigest(), lambda: parse(data, name))


def known_suffix(path: str) -> bool:
    """Whether a name ends like a file that can be read."""
    return os.path.splitext(path.removesuffix(".gz"))[1].lower() in PARSERS


def _parser(path: Path, name: str) -> Callable[[bytes, str], Iterator[Row]]:
    zipped = path.suffix.lower() == ".gz"
    parse = PARSERS.get((path.with_suffix("") if zipped else path).suffix.lower())
    if parse is None:
        raise DataError(f"{name}: unknown kind of file. Kinds: {', '.join(PARSERS)}, each also with .gz.")
    return (lambda data, name: parse(_unzip(data, name), name)) if zipped else parse


def _unzip(data: bytes, name: str) -> bytes:
    """The contents of all members of a gzip file."""
    parts: list[bytes] = []
    while data:
        member = zlib.decompressobj(wbits=31)
        try:
            parts.append(member.decompress(data))
        except zlib.error as error:
            raise DataError(f"{name} is not sound gzip data ({error}). Get or make the file again.") from error
        if not member.eof:
            lines = sum(part.count(b"\n") for part in parts)
            raise DataError(f"{name}, line {lines + 1}: the gzip data breaks off here. Get or make the file again.")
        data = member.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = "It is gzip data: add .gz to its name." if data[:2] == b"\x1f\x8b" else "Save it as UTF-8."
        raise DataError(f"{name}, line {line}: not UTF-8 text ({error.reason}). {hint}") from error


def _lines(data: bytes, name: str) -> Iterator[Row]:
    return _json_lines(_decode(data, name), name)


def _json_lines(content: str, name: str) -> Iterator[Row]:
    # Not splitlines: JSON text may hold U+2028 and other line ends that are no line feeds.
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            place = f"line {number}"
            yield Row(place, _object(_json(line, name, place), name, place))


def _json_list(data: bytes, name: str) -> Iterator[Row]:
    content = _decode(data, name)
    if not content.lstrip().startswith("["):
        yield from _json_lines(content, name)
        return
    for number, value in enumerate(_json(content, name)):
        place = f"row {number}"
        yield Row(place, _object(value, name, place))


def _json(content: str, name: str, place: str = "") -> Any:
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        place = place or f"line {error.lineno}"
        raise DataError(f"{name}, {place}, column {error.colno}: not JSON: {error.msg}.") from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"{name}{place and ', ' + place}: not JSON that can be read: {error}.") from error


def _object(value: Any, name: str, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        kind = "text" if isinstance(value, str) else describe(value)
        raise DataError(f"{name}, {place}: {kind} where an object with columns should be.")
    return value


def _csv(data: bytes, name: str) -> Iterator[Row]:
    limit = csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(io.StringIO(_decode(data, name), newline=""), strict=True)
    line = 1
    try:
        header = next(reader, [])
        if len(set(header)) != len(header):
            raise DataError(f"{name}, line 1: two columns have the same name.")
        line = reader.line_num + 1
        for fields in reader:
            if fields and len(fields) != len(header):
                raise DataError(f"{name}, line {line}: {len(fields)} fields where the header has {len(header)}.")
            if fields:
                yield Row(f"line {line}", dict(zip(header, fields, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}, line {line}: not sound CSV: {error}.") from error
    finally:
        csv.field_size_limit(limit)


def _parquet(data: bytes, name: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(pa.BufferReader(data)).iter_batches():
            for values in batch.to_pylist():
                yield Row(f"row {number}", values)
                number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name}, row {number}: not sound Parquet: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


PARSERS: dict[str, Callable[[bytes, str], Iterator[Row]]] = {
    ".jsonl": _lines,
    ".ndjson": _lines,
    ".json": _json_list,
    ".csv": _csv,
    ".parquet": _parquet,
}
