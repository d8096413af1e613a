from pathlib import Path

import pytest

from preftrace.errors import DataError
from preftrace.evaluate.replicates import find_replicates


@pytest.fixture
def runs(tmp_path, monkeypatch):
    for place in ("s1/sft", "s1/dpo", "s2/sft", "s2/dpo", "s10/sft", "s10/dpo", "one/base"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


def pairs(a, b):
    return [(str(x), str(y)) for x, y in find_replicates(Path(a), Path(b))]


def test_patterns_are_paired_by_what_the_star_stands_for(runs):
    assert pairs("s*/sft", "s*/dpo") == [(f"s{k}/sft", f"s{k}/dpo") for k in ("1", "10", "2")]


def test_a_plain_path_is_the_same_for_all_seeds(runs):
    assert pairs("one/base", "s*/dpo") == [("one/base", f"s{k}/dpo") for k in ("1", "10", "2")]
    assert pairs("s1/sft", "s1/dpo") == [("s1/sft", "s1/dpo")]


def test_seeds_that_only_one_side_has_are_named(runs):
    Path("s3/sft").mkdir(parents=True)
    with pytest.raises(DataError, match="only one of the two has 3"):
        find_replicates(Path("s*/sft"), Path("s*/dpo"))
    with pytest.raises(DataError, match="matches no file"):
        find_replicates(Path("r*/sft"), Path("s*/dpo"))


def test_a_star_may_stand_for_nothing(tmp_path, monkeypatch):
    """The run without a number is one of the seeds, not the only one."""
    for place in ("dpo", "dpo2", "sft", "sft3", "base"):
        (tmp_path / place).mkdir()
    monkeypatch.chdir(tmp_path)
    assert pairs("base", "dpo*") == [("base", "dpo"), ("base", "dpo2")]
    with pytest.raises(DataError, match="only one of the two has 2, 3"):
        find_replicates(Path("sft*"), Path("dpo*"))
