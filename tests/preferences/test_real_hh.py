"""The real HH-RLHF rows, where they are at hand."""

import gzip
import json

import pytest

from preftrace.preferences import PreferencesConfig, prepare, read_pairs
from preftrace.preferences.sources import hh


@pytest.fixture(scope="module")
def path(shared_data):
    path = shared_data / "hh_harmless.jsonl.gz"
    if not path.is_file():
        pytest.skip("hh_harmless.jsonl.gz is not among the real data")
    return path


@pytest.fixture(scope="module")
def pairs(path):
    return read_pairs(PreferencesConfig(source="hh", path=str(path)))


def test_every_row_is_read_and_every_flaw_is_flagged(pairs):
    assert len(pairs) == 1600
    assert [p.row for p in pairs if "fork" in p.flags] == [1254]
    assert [p.row for p in pairs if "empty" in p.flags] == [p.row for p in pairs if not p.chosen or not p.rejected]
    assert [p.row for p in pairs if "identical" in p.flags] == [p.row for p in pairs if p.chosen == p.rejected]
    assert not any("malformed" in p.flags for p in pairs)


def test_prompt_and_answer_put_together_are_the_transcript_again(path, pairs):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    for row, pair in zip(rows, pairs, strict=True):
        for side, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            turns = hh.turns(row[side])
            assert turns[: len(pair.prompt)] == pair.prompt
            assert turns[len(pair.prompt)].content == answer
            assert len(turns) == len(pair.prompt) + 1 or "fork" in pair.flags
        assert pair.prompt[-1].role == "user"


def test_the_forked_row_is_split_where_the_dialogues_part(pairs):
    forked = pairs[1254]
    assert forked.chosen.startswith("No. Men who impersonate")
    assert forked.rejected.startswith("A drag king is the opposite")


def test_nothing_is_dropped_without_its_reason(path, tmp_path):
    summary = prepare(PreferencesConfig(source="hh", path=str(path), holdout=0.1), 0, tmp_path / "pairs").summary
    assert summary["kept"] + sum(summary["dropped"].values()) == summary["read"] == 1600
    assert summary["dropped"] == {"fork": 1, "empty": 4}
    assert 110 < summary["holdout"] < 210
