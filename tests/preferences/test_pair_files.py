"""Every kind of file gives the same rows, and every fault names file, place and cause."""

import csv
import gzip
import io
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preftrace.errors import DataError
from preftrace.preferences import PreferencesConfig, read_pairs

ROWS = [
    {"prompt": "first\u2028line", "chosen": 'a "quoted", answer', "rejected": "b\nsecond line"},
    {"prompt": "émigré \U0001f600", "chosen": "x" * 200_000, "rejected": "d"},
]


def as_jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


KINDS = {
    "p.jsonl": as_jsonl(ROWS),
    "p.ndjson": as_jsonl(ROWS).replace(b"\n", b"\r\n\r\n"),
    "p.JSONL": b"\xef\xbb\xbf" + as_jsonl(ROWS),
    "p.json": json.dumps(ROWS, indent=1).encode(),
    "lines.json": as_jsonl(ROWS),
    "p.csv": as_csv(ROWS),
    "p.parquet": as_parquet(ROWS),
    "p.jsonl.gz": gzip.compress(as_jsonl(ROWS[:1])) + gzip.compress(as_jsonl(ROWS[1:])) + b"\0\0",
    "p.json.gz": gzip.compress(json.dumps(ROWS).encode()),
    "p.csv.gz": gzip.compress(as_csv(ROWS)),
}


def read(path, **settings):
    return read_pairs(PreferencesConfig(**{"source": "columns", "path": str(path), **settings}))


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_pairs(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(KINDS[name])
    got = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in read(path)]
    assert got == ROWS


def test_reading_csv_leaves_the_csv_module_as_it_was(tmp_path):
    limit = csv.field_size_limit()
    (tmp_path / "p.csv").write_bytes(KINDS["p.csv"])
    read(tmp_path / "p.csv", limit=1)
    assert csv.field_size_limit() == limit


GOOD = b'{"prompt": "q", "chosen": "a", "rejected": "b"}\n'
HEADER = b"prompt,chosen,rejected\n"
ZIPPED = gzip.compress(as_jsonl([{"prompt": str(n), "chosen": "a", "rejected": "b"} for n in range(2000)]))
FLIPPED = ZIPPED[:-6] + bytes([ZIPPED[-6] ^ 1]) + ZIPPED[-5:]
FAULTS = {
    "empty.jsonl": (b"", "is empty (0 bytes)"),
    "blank.jsonl": (b"\n \n", "holds no rows"),
    "list.json": (b"[]", "holds no rows"),
    "header.csv": (HEADER, "holds no rows"),
    "nothing.jsonl.gz": (gzip.compress(b""), "holds no rows"),
    "none.parquet": (b"", "is empty (0 bytes)"),
    "bad.jsonl": (GOOD + b"\n" + b'{"prompt": "q", \n', "line 3, column 17: not JSON: Expecting property name"),
    "deep.jsonl": (GOOD + b"[" * 200_000, "line 2"),
    "scalar.jsonl": (GOOD + b"[1]\n", "line 2: a list where an object with columns should be"),
    "text.json": (b'[{"prompt": "q", "chosen": "a", "rejected": "b"}, "x"]', "row 1: text where an object"),
    "bad.json": (b'[\n{"prompt": 1,\n]', "line 3, column 1: not JSON"),
    "latin.jsonl": (
        GOOD + b'{"prompt": "caf\xe9"}\n',
        "line 2: not UTF-8 text (invalid continuation byte). Save it as UTF-8",
    ),
    "zipped.jsonl": (gzip.compress(GOOD), "It is gzip data: add .gz to its name"),
    "plain.jsonl.gz": (GOOD, "is not sound gzip data"),
    "half.jsonl.gz": (ZIPPED[: len(ZIPPED) // 2], "the gzip data breaks off here"),
    "flipped.jsonl.gz": (FLIPPED, "is not sound gzip data"),
    "short.csv": (HEADER + b"q,a,b\nq,a\n", "line 3: 2 fields where the header has 3"),
    "quote.csv": (HEADER + b'q,a,b\nq,"a,b\n', "line 3: not sound CSV: unexpected end of data"),
    "twice.csv": (b"prompt,chosen,chosen\nq,a,b\n", "line 1: two columns have the same name"),
    "half.parquet": (as_parquet(ROWS)[:-20], "not sound Parquet"),
    "text.parquet": (GOOD, "not sound Parquet"),
    "pairs.xlsx": (b"PK", "unknown kind of file. Kinds: .jsonl"),
    "pairs.gz": (b"PK", "unknown kind of file"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_names_the_file_the_place_and_the_cause(tmp_path, name):
    data, cause = FAULTS[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert cause in str(caught.value)


def test_half_a_gzip_member_names_the_line_where_it_breaks_off(tmp_path):
    path = tmp_path / "half.jsonl.gz"
    path.write_bytes(ZIPPED[: len(ZIPPED) // 2])
    with pytest.raises(DataError) as caught:
        read(path)
    line = int(str(caught.value).split("line ")[1].split(":")[0])
    assert 200 < line < 1800


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jsonl: no such file"):
        read(tmp_path / "gone.jsonl")


def test_a_folder_without_data_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="is a folder without data files"):
        read(tmp_path)


def test_an_empty_path_is_refused():
    with pytest.raises(DataError, match="the path of the pairs is empty"):
        read("")


def test_what_is_neither_file_nor_folder_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match="is not a file"):
        read(tmp_path / "pipe.jsonl")


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    path = tmp_path / "p.jsonl"
    path.write_bytes(GOOD)

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", refuse)
    with pytest.raises(DataError, match=r"p\.jsonl cannot be read: Permission denied"):
        read(path)


def test_a_file_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "p.jsonl"
    path.write_bytes(GOOD)
    calls = []
    real = type(path).read_bytes
    monkeypatch.setattr(type(path), "read_bytes", lambda self: calls.append(self) or real(self))
    read(path)
    assert calls == [path]
