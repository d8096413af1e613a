"""Tokens in the report: shaded by sign and size, merged and clipped without losing a character, always text."""

from __future__ import annotations

import math
import shutil

import pyarrow as pa
import pytest
from tests.report.test_report import HOSTILE, read

from preftrace import artifacts
from preftrace.report import shading, write
from preftrace.report.html import CLIP
from preftrace.report.shading import LEVELS, Shade


def token(text, part, side="chosen", position=0):
    return {"side": side, "position": position, "token": text, "part": part}


def test_levels_are_the_part_over_the_pairs_largest():
    rows = [token("It", 8.0), token(" is", -4.0), token(" so", 0.4), token("!", -0.6)]
    assert shading.shade(rows)["chosen"].whole == [
        Shade("It", LEVELS, True),
        Shade(" is", LEVELS // 2, False),
        Shade(" so", 0, False),
        Shade("!", 1, False),
    ]


def test_the_scale_is_the_pairs_over_all_its_sides():
    found = shading.shade([token("a", 2.0, "prompt"), token("b", -8.0, "rejected"), token("c", 4.0)])
    assert {side: part.whole[0].level for side, part in found.items()} == {"prompt": 2, "chosen": 4, "rejected": 8}


def test_neighbours_of_one_shade_are_one_run():
    rows = [token("a", 8.0), token("b", 7.9), token("c", 0.0), token("d", 0.1), token("e", -8.0)]
    assert [run.text for run in shading.shade(rows)["chosen"].whole] == ["ab", "cd", "e"]


def test_a_token_without_text_counts_with_the_next():
    """The first byte of a character has no text: its part is the character's."""
    rows = [token("", 3.0), token("", 3.0), token("é", 2.0), token("x", -4.0)]
    assert shading.shade(rows)["chosen"].whole == [Shade("é", LEVELS, True), Shade("x", LEVELS, False)]


def test_parts_that_are_all_zero_or_missing_have_no_shade():
    for part in (0.0, math.nan):
        assert shading.shade([token("a", part), token("b", part)])["chosen"].whole == [Shade("ab", 0, False)]
    assert shading.shade([]) == {}


@pytest.mark.parametrize(("side", "start", "end"), [("prompt", "…", "9"), ("chosen", "0", "…")])
def test_long_texts_are_clipped_at_the_end_that_matters(side, start, end):
    rows = [token(f"{i:9d}" if i else "0        ", float((-1) ** i), side) for i in range(100)]
    whole, clipped, length = shading.shade(rows)[side]
    assert length == 900 and "".join(run.text for run in whole) == "".join(row["token"] for row in rows)
    text = "".join(run.text for run in clipped)
    assert len(text) == CLIP + 1 and text[0] == start and text[-1] == end
    assert text.strip("…") in "".join(run.text for run in whole)


def test_white_space_at_the_ends_goes_and_the_rest_stays():
    rows = [token("\n\n", 1.0), token(" a", 1.0), token(" b ", -1.0), token(" ", 0.0)]
    assert [run.text for run in shading.shade(rows)["chosen"].whole] == ["a", " b"]


@pytest.fixture(scope="module")
def shaded(finished, tmp_path_factory):
    """The report of a run whose pairs have tokens, with a hostile text in each."""
    run = tmp_path_factory.mktemp("shaded") / "run"
    shutil.copytree(finished, run)
    scores = artifacts.read_table(run / "attribute" / "dpo" / "scores.parquet").to_pylist()
    rows = [
        {**{key: row[key] for key in ("pair_id", "vertical", "method")}, **token(text, part * row["score"], side, i)}
        for row in scores
        if row["method"] == "identity"
        for side, words in (("prompt", ["Ask", "<b>"]), ("chosen", [HOSTILE, "!"]), ("rejected", ["no", "é"]))
        for i, (text, part) in enumerate(zip(words, (1.5, -0.5), strict=True))
    ]
    artifacts.write_table(run / "attribute" / "dpo" / "tokens.parquet", pa.Table.from_pylist(rows))
    return read(write(run))


def test_the_report_marks_tokens_and_explains_the_marks(shaded):
    _, parsed = shaded
    marks = [attrs["class"] for attrs in parsed.named("mark")]
    assert all(marks.count(f"{sign} w{level}") > 20 for sign in ("up", "down") for level in (3, 8))
    assert "Shading: how much of the score" in parsed.words
    assert "By datainf" in parsed.words and "rejected +" not in parsed.words


def test_marked_text_is_text(shaded):
    html, parsed = shaded
    assert "<script" not in html and "{{ 7*7 }}" in html and not parsed.named("script") and not parsed.named("img")
    assert "<U+202E>" in parsed.words and "<b>" in parsed.words and not parsed.named("b")


def test_without_tokens_there_are_no_marks_and_no_legend(finished, tmp_path):
    _, parsed = read(write(finished, tmp_path / "r.html"))
    assert not parsed.named("mark") and "Shading" not in parsed.words


def test_the_two_answers_parts_are_shown_where_the_stage_has_them(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    path = run / "attribute" / "dpo" / "scores.parquet"
    table = artifacts.read_table(path)
    for name, value in (("score_chosen", 0.125), ("score_rejected", -0.25)):
        table = table.append_column(name, pa.array([value] * table.num_rows))
    artifacts.write_table(path, table)
    _, parsed = read(write(run))
    assert "· chosen 0.125 · rejected \N{MINUS SIGN}0.25" in parsed.words
