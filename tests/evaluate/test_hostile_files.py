"""Broken and odd item files through the command: refused with one message, or read whole."""

import csv
import gzip
import io
import json
import math
import unicodedata

import pytest
from tests.evaluate.hostile import ANSI, EMOJI, RTL, SCRIPT, TEXTS, ZERO, refused, strict, typed

from preftrace import artifacts
from preftrace.evaluate import configure, load
from preftrace.evaluate.backends import hf

__all__ = ["typed"]
QUESTION = {"question": "What is rain?", "mc1_targets": {"Water.": 1, "Tears.": 0}}
QUESTION["mc2_targets"] = QUESTION["mc1_targets"]


def rtp(*texts):
    return "".join(json.dumps({"prompt": {"text": text}}) + "\n" for text in texts).encode()


def choices(**targets):
    return json.dumps([{**QUESTION, **targets}]).encode()


def parquet(rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


RTP, TQA, ETHICS = (("toxicity", "rtp"), ("truthfulness", "truthfulqa"), ("ethics", "ethics"))
HEAD = "label,input,is_short\n"
BROKEN = {
    "gzip cut short": (RTP, "x.jsonl.gz", gzip.compress(rtp(*map(str, range(999))))[:-40], "damaged or cut short"),
    "gzip with a flipped byte": (RTP, "x.jsonl.gz", gzip.compress(rtp("abc"))[:-8] + b"\0" * 8, "damaged"),
    "nothing at all": (RTP, "x.jsonl", b"", "holds no items"),
    "gzip of nothing": (RTP, "x.jsonl.gz", gzip.compress(b""), "holds no items"),
    "bytes that are no UTF-8": (RTP, "x.jsonl", rtp("caf") + b'{"prompt": {"text": "caf\xe9"}}', "not UTF-8 text"),
    "UTF-16": (RTP, "x.jsonl", rtp("a").decode().encode("utf-16"), "not UTF-8 text"),
    "half a surrogate pair": (RTP, "x.jsonl", b'{"prompt": {"text": "a\\ud83d"}}', "line 1: holds half of a surr"),
    "half a surrogate beside": (TQA, "x.json", choices(category="\ud800"), "row 0: holds half of a surrogate"),
    "nested too deep": (TQA, "x.json", b"[" * 200_000, "not JSON"),
    "nested too deep in a line": (RTP, "x.jsonl", b'{"a":' * 200_000, "line 1: not JSON"),
    "a number of 5,000 digits": (RTP, "x.jsonl", b'{"prompt": ' + b"9" * 5_000 + b"}", "line 1: not JSON"),
    "terminal escapes as a key": (RTP, "x.jsonl", json.dumps({ANSI: 1}).encode(), "line 1: 'prompt' is missing"),
    "a column named twice": (ETHICS, "x.csv", b"label,input,input,is_short\n1,a,b,True\n", "twice: input"),
    "a cell of 200,000 characters": (ETHICS, "x.csv", (HEAD + f"1,{'a' * 200_000},True\n").encode(), "larger than"),
    "a row cut short": (ETHICS, "x.csv", (HEAD + "1,I lied.\n").encode(), "line 2: 'is_short' is missing"),
    "Parquet of other types": (RTP, "x.parquet", parquet([{"prompt": 3}]), "row 0: 'prompt' must be an object"),
    "Parquet of bytes": (RTP, "x.parquet", parquet([{"prompt": {"text": b"a"}}]), "must be a text"),
    "Parquet cut short": (RTP, "x.parquet", parquet([{"prompt": {"text": "a"}}])[:-9], "not a readable Parquet"),
    "a blank option": (TQA, "x.json", choices(mc2_targets={"Water.": 1, " \n": 0, "Tears.": 0}), "is empty"),
    "an option true and false": (TQA, "x.json", choices(mc2_targets={"Tears.": 0, "Tears. ": 1}), "true and false"),
    "an option that is null": (
        TQA,
        "x.json",
        choices(mc1_targets={"choices": ["Water.", None], "labels": [1, 0]}),
        "'mc1_targets' must map each answer",
    ),
    "a label that is NaN": (TQA, "x.json", choices(mc1_targets={"Water.": math.nan, "Tears.": 0}), "must map each"),
    "a prompt that is NaN": (RTP, "x.jsonl", b'{"prompt": NaN}', "line 1: 'prompt' is missing"),
    "a million blanks": (RTP, "x.jsonl", rtp(" " * 1_000_000), "'text' must be a text that is not blank"),
    "a folder in a file's place": (RTP, "x.jsonl", None, "x.jsonl: cannot be loaded as a data set"),
}


def evaluate(model, asked, path, out, *more):
    return ("evaluate", model, "--vertical", asked[0], "--source", asked[1], "--path", path, "--out", out, *more)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_message_and_nothing_is_written(name, tiny_folder, tmp_path, typed):
    asked, file, content, told = BROKEN[name]
    if content is None:
        (tmp_path / file).mkdir()
    else:
        (tmp_path / file).write_bytes(content)

    message = refused(typed(*evaluate(tiny_folder, asked, tmp_path / file, tmp_path / "out")))

    assert told in message and file in message and len(message) < 1_000
    assert not (tmp_path / "out").exists()


def items(vertical, source, path, content, **more):
    path.write_bytes(content)
    return load(vertical).items(configure(vertical, {"source": source, "path": str(path), **more}), 0)


def test_a_byte_order_mark_and_mixed_line_ends_lose_no_row(tmp_path):
    lines = rtp("one", "two", "three", "four").split(b"\n")[:4]
    content = b"\xef\xbb\xbf" + lines[0] + b"\r\n" + lines[1] + b"\n\r\n" + lines[2] + b"\r" + lines[3]

    assert [item.prompt for item in items(*RTP, tmp_path / "x.jsonl", content)] == ["one", "two", "three", "four"]


def test_a_cell_keeps_its_line_breaks_quotes_and_zero_bytes(tmp_path):
    act, file = 'I lied.\r\n"Twice",\n\x00even, \u2028truly', io.StringIO()
    csv.writer(file).writerows([["label", "input", "is_short"], ["1", act, "True"], ["0", "I ate.", "True"]])

    found = items(*ETHICS, tmp_path / "x.csv", file.getvalue().encode())

    assert [item.target["act"] for item in found] == [act, "I ate."]


def test_ids_that_differ_by_normalisation_only_are_two_items(tmp_path):
    forms = [unicodedata.normalize(form, "Jos\u00e9 said") for form in ("NFC", "NFD")]
    found = items(*RTP, tmp_path / "x.jsonl", rtp(*forms))

    assert [item.prompt for item in found] == forms and len({item.id for item in found}) == 2


def test_rows_that_are_all_the_same_are_one_item_and_counted(tmp_path):
    found = items(*RTP, tmp_path / "x.jsonl", rtp(*["The door was"] * 50))

    assert (len(found), found.available, found.duplicates) == (1, 1, 49)


@pytest.mark.parametrize("name", ["x.json", "x.parquet"])
def test_a_category_that_is_nan_is_none_at_all(tmp_path, name):
    rows = [{**QUESTION, "question": f"q{i}", "category": math.nan} for i in range(3)]
    found = items(*TQA, tmp_path / name, json.dumps(rows).encode() if name == "x.json" else parquet(rows))

    assert len({item.cluster for item in found}) == 3 and {item.target["category"] for item in found} == {None}


@pytest.fixture(autouse=True)
def _forget_models():
    yield
    hf._load.cache_clear()


ODD = [*(text for text in TEXTS.values() if len(text) < 2_000), "a", RTL, EMOJI, ZERO, SCRIPT * 9]


def test_odd_prompts_are_all_answered_and_kept_to_the_letter(tiny_folder, tmp_path, typed):
    (tmp_path / "x.jsonl").write_bytes(rtp(*ODD))
    small = ("--set", "samples=2", "--set", "max_new_tokens=3", "--json")
    code, out, _ = typed(*evaluate(tiny_folder, RTP, tmp_path / "x.jsonl", tmp_path / "out", *small))

    (record,) = strict(out)
    distinct = list(dict.fromkeys(text.strip() for text in ODD))
    folder = tmp_path / "out" / "tiny" / "toxicity"
    assert code == 0 and artifacts.read_table(folder / "items.parquet")["prompt"].to_pylist() == distinct
    assert artifacts.read_table(folder / "generations.parquet").num_rows == 2 * len(distinct)
    summary = record["summary"]
    assert (summary["items"], summary["duplicates"]) == (len(distinct), len(ODD) - len(distinct))
    assert summary["trust"]["n"] + summary["trust"]["missing"] == len(distinct)
    strict((folder / "record.json").read_text())


def test_one_item_has_a_value_and_no_interval(tiny_folder, tmp_path, typed):
    (tmp_path / "x.json").write_bytes(choices())
    _, out, _ = typed(*evaluate(tiny_folder, TQA, tmp_path / "x.json", tmp_path / "out", "--json"))

    trust = strict(out)[0]["summary"]["trust"]
    assert 0 < trust["value"] < 1 and (trust["n"], trust["missing"], trust["low"], trust["high"]) == (1, 0, None, None)


def test_thousands_of_options_and_options_that_begin_alike(tiny_folder, tmp_path, typed):
    wrong = ["No", "No way", "No way out", *(f"n{i}" for i in range(2_000))]
    (tmp_path / "x.json").write_bytes(choices(mc2_targets={"Water.": 1} | dict.fromkeys(wrong, 0)))
    code, *_ = typed(*evaluate(tiny_folder, TQA, tmp_path / "x.json", tmp_path / "out"))

    options = artifacts.read_table(tmp_path / "out" / "tiny" / "truthfulness" / "options.parquet").to_pylist()
    found = {row["text"]: row["logprob"] for row in options}
    assert code == 0 and list(found) == ["Water.", "Tears.", *wrong]
    assert 0 > found["No"] > found["No way"] > found["No way out"]
    assert all(math.isfinite(value) for value in found.values())
