"""Rows of test items from files, data set folders and the Hub. Whatever is wrong is told with its file and row."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import IO, Any, NamedTuple

from preftrace import artifacts
from preftrace.errors import DataError
from preftrace.evaluate.base import STARTER, VerticalConfig

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
PICKLES = (".pkl", ".pickle", ".pck", ".p")


class Row(NamedTuple):
    """One row of a source, and where it lies, for messages."""

    values: Mapping[str, Any]
    where: str

    def fail(self, cause: str) -> DataError:
        """The error for this row."""
        return DataError(f"{self.where}: {cause}")

    def value(self, key: str) -> Any:
        """The value of a column that must be there.

        Raises:
            DataError: the row has no such column.
        """
        if self.values.get(key) is None:
            have = ", ".join(str(k) for k in self.values) or "nothing"
            raise self.fail(f"'{key}' is missing; the row needs it and has: {have}")
        return self.values[key]

    def text(self, key: str) -> str:
        """A text that is not blank, without white space around it."""
        value = self.value(key)
        if not isinstance(value, str) or not value.strip():
            raise self.fail(f"'{key}' must be a text that is not blank, and is {value!r:.80}")
        return value.strip()

    def texts(self, key: str) -> list[str]:
        """A list of one or more texts that are not blank."""
        value = self.value(key)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v.strip() for v in value):
            raise self.fail(f"'{key}' must be a list of texts that are not blank, and is {str(value)[:80]}")
        return [v.strip() for v in value]

    def boolean(self, key: str) -> bool:
        """A truth value: JSON's, 0 or 1, or the words true and false."""
        value = self.value(key)
        known = {"true": True, "1": True, "false": False, "0": False}
        if str(value).strip().lower() not in known:
            raise self.fail(f"'{key}' must be true, false, 1 or 0, and is {value!r}")
        return known[str(value).strip().lower()]


def rows(vertical: str, config: VerticalConfig) -> Iterator[Row]:
    """The rows of a vertical's source: its starter items, or what `path` names.

    Raises:
        DataError: the path cannot be found or read, or holds no row.
    """
    empty = True
    for row in _rows(vertical, config):
        empty = False
        yield row
    if empty:
        raise DataError(f"{config.path}: holds no items; it needs at least one row")


def _rows(vertical: str, config: VerticalConfig) -> Iterator[Row]:
    if config.source == STARTER:
        file = resources.files("preftrace") / "starter" / "items" / f"{vertical}.jsonl"
        with resources.as_file(file) as path:
            yield from read_file(path)
        return
    assert config.path is not None, "checked by the config"
    path = Path(config.path).expanduser()
    if path.is_file():
        yield from read_file(path)
    elif path.is_dir():
        yield from _read_hub(str(path), None, config)
    elif HUB_ID.fullmatch(config.path) and not _suffix(path):
        yield from _read_hub(config.path, _commit(config.path, config.revision), config)
    else:
        raise DataError(f"{path}: no such file. It is needed by source '{config.source}' of {vertical}.")


def pinned(config: VerticalConfig) -> list[dict[str, str]]:
    """What the items were read from: of a file the sha256 of its bytes, of a Hub data set the commit; else the path.

    Nothing for the starter's items, which come with the version of preftrace.

    Raises:
        DataError: the commit cannot be found out.
    """
    found = []
    for name in config.files:
        path = Path(name).expanduser()
        if path.is_file():
            found.append({"path": name, "sha256": artifacts.hash_file(path)})
        else:
            found.append({"path": name} | ({} if path.is_dir() else {"revision": _commit(name, config.revision)}))
    return found


@lru_cache
def _commit(name: str, revision: str | None) -> str:
    """The commit of a Hub data set, asked for once in a process, so that all of it reads the same rows."""
    from preftrace.preferences.hub import commit_of

    try:
        return commit_of(name, revision)
    except DataError as error:
        raise DataError(f"{name}: cannot be loaded as a data set: {str(error).removeprefix(f'{name}: ')}") from error


def read_file(path: Path) -> Iterator[Row]:
    """The rows of a .jsonl, .json, .csv (each also .gz) or .parquet file.

    Raises:
        DataError: another suffix, or a file that cannot be read; names the row where there is one.
    """
    suffix = _suffix(path)
    if path.suffix.lower() in PICKLES:
        raise DataError(
            f"{path}: a pickle can run any program when it is opened, so it is never read. Have whoever trusts it "
            'write its rows as JSON, such as [{"name": "...", "email": "..."}]'
        )
    if not suffix:
        raise DataError(f"{path}: unknown file type; known: {', '.join(SUFFIXES)}, the first three also with .gz")
    try:
        if suffix == ".parquet":
            yield from _read_parquet(path)
            return
        with _open(path) as file:
            yield from {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv}[suffix](path, file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: the gzip data are damaged or cut short ({error}). Fetch the file again.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _suffix(path: Path) -> str:
    name = path.name.lower()
    bare = name.removesuffix(".gz")
    found = next((s for s in SUFFIXES if bare.endswith(s)), "")
    return "" if found == ".parquet" and name.endswith(".gz") else found


def _open(path: Path) -> IO[str]:
    if path.name.lower().endswith(".gz"):
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _read_jsonl(path: Path, file: IO[str]) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line, parse_constant=_missing)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not JSON ({error}). Each line must be one JSON object.") from error
        yield _row(value, where)


def _read_json(path: Path, file: IO[str]) -> Iterator[Row]:
    try:
        values = json.load(file, parse_constant=_missing)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    if not isinstance(values, list):
        raise DataError(f"{path}: must hold a JSON list of rows, and holds a {type(values).__name__}")
    for number, value in enumerate(values):
        yield _row(value, f"{path}, row {number}")


def _row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{where}: must be a JSON object, and is a {type(value).__name__}")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: holds half of a surrogate pair, which is no text") from error
    return Row(value, where)


def _missing(constant: str) -> None:
    """NaN and infinities, which Python writes into JSON although it has none, are missing values."""


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row with NaN as missing, as data frames write what is not there."""
    return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in values.items()}


def _read_csv(path: Path, file: IO[str]) -> Iterator[Row]:
    reader = csv.DictReader(file, strict=True)
    try:
        names = [name for name in reader.fieldnames or () if name]
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise DataError(f"{path}: the header names a column twice: {', '.join(twice)}")
        for values in reader:
            where = f"{path}, line {reader.line_num}"
            if None in values:
                raise DataError(f"{where}: more fields than the header names ({len(reader.fieldnames or ())})")
            yield Row(values, where)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error})") from error


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from error
    for number, values in enumerate(table.to_pylist()):
        yield Row(_known(values), f"{path}, row {number}")


def _read_hub(name: str, commit: str | None, config: VerticalConfig) -> Iterator[Row]:
    from datasets import DatasetDict, load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        data = load_dataset(name, config.subset, revision=commit)
    except (OSError, ValueError, RuntimeError, DatasetsError, HfHubHTTPError) as error:
        raise DataError(f"{name}: cannot be loaded as a data set: {str(error).strip().splitlines()[0]}") from error
    assert isinstance(data, DatasetDict), "no split was asked for"
    splits = sorted(str(split) for split in data)
    split = config.split or (splits[0] if len(splits) == 1 else "")
    if split not in splits:
        raise DataError(f"{name}: has the splits {', '.join(splits)}; say which one with split: (given: {split!r})")
    for number, values in enumerate(data[split]):
        yield Row(_known(values), f"{name}, {split} row {number}")
