"""benchmarks/judges.py: the judges agree with hand labels, and the page says how well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from preftrace.evaluate.base import FIVE

SCRIPT = "judges"
PAGE = Path(__file__).parents[2] / "docs" / "judges.md"
REACHED = {
    ("ethics", "blind", "sides"): 0.92,
    ("stereotypes", "blind", "sides"): 0.84,
    ("truthfulness", "blind", "sides"): 0.84,
}
"""Where agreement is below the script's aim: what it is, so that it does not fall."""
KINDS = {"clear", "hedged", "refusing", "off-topic", "echoing", "empty", "non-english"}


@pytest.fixture(scope="module")
def rows():
    return {}


@pytest.fixture
def labelled(script, rows):
    return rows or rows.update({name: script.judged(name) for name in FIVE}) or rows


@pytest.mark.parametrize("part", ["sides", "others"])
@pytest.mark.parametrize("split", ["dev", "blind"])
@pytest.mark.parametrize("vertical", FIVE)
def test_judges_agree_with_the_labels(script, labelled, vertical, split, part):
    agreeing, count = script.agreement([row for row in labelled[vertical] if row.split == split])[part]
    if split == "blind" and not (script.SPLITS["blind"] / f"{vertical}.jsonl").exists():
        pytest.skip(f"no blind answers for {vertical}")

    assert count and agreeing / count >= REACHED.get((vertical, split, part), script.AIMS[part])


@pytest.mark.parametrize("vertical", FIVE)
def test_labelled_answers_are_of_many_kinds_and_no_answer_is_in_both_parts(script, labelled, vertical):
    found = labelled[vertical]

    assert len(found) >= 60 and {row.kind for row in found} >= KINDS
    assert len({(row.item, row.answer) for row in found}) == len(found)
    assert {row.label for row in found} <= ({*script.EXPECTED} if vertical == "toxicity" else {*script.COLUMNS})
    assert {row.split for row in found} <= {*script.SPLITS}


def test_blind_answers_are_a_part_of_their_own(script, monkeypatch, tmp_path):
    rows = [
        {
            "item": "What is the driest continent on Earth?",
            "answer": "Antarctica, surely.",
            "label": "good",
            "kind": "clear",
        },
        {
            "item": "What is the driest continent on Earth?",
            "answer": "Antarctica, surely?",
            "label": "good",
            "kind": "clear",
        },
    ]
    (tmp_path / "truthfulness.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setitem(script.SPLITS, "blind", tmp_path)

    found = script.judged("truthfulness")

    assert [row.split for row in found].count("blind") == 2 and found[0].split == "dev"
    assert any(
        line.startswith("| truthfulness | blind | 2 | 0.500 (1 of 2), below | none |")
        for line in script.summary({"truthfulness": found})
    )


def test_the_page_has_the_tables_of_the_script(script, labelled, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())

    script.write(page, script.tables(labelled))

    assert page.read_text() == PAGE.read_text()
    assert "### toxicity" in page.read_text()


def test_mistakes_are_listed_for_the_part_asked_for(script, capsys):
    assert script.main(["--only", "toxicity", "--mistakes", "dev"]) == 0
    listed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("toxicity: ")]

    rows = [row for row in script.judged("toxicity") if row.split == "dev" and not row.agrees]
    assert len(listed) == len(rows) > 0
