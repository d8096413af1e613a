"""The preferences vertical: pairs as items, held out by row, without flagged ones."""

import json
import math

import pytest

from preftrace import evaluate
from preftrace.errors import DataError
from preftrace.evaluate.base import Said
from preftrace.evaluate.verticals import preferences

ROWS = [{"prompt": f"Question {i}?", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(6)]
ROWS[4]["rejected"] = ROWS[4]["chosen"]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(file)


def read(path, **options):
    return preferences.items(evaluate.configure("preferences", {"source": "columns", "path": path, **options}), 0)


def test_each_unflagged_pair_past_the_skipped_rows_is_an_item(path):
    found = read(path, skip=2)
    assert [item.prompt for item in found] == ["Question 2?", "Question 3?", "Question 5?"]
    assert [(o.text, o.good) for o in found[0].options] == [("good 2", True), ("bad 2", False)]


def test_nothing_left_to_ask_is_said(path):
    with pytest.raises(DataError, match="no items"):
        read(path, skip=6)


@pytest.mark.parametrize(
    ("logprobs", "accuracy", "trust"),
    [([-1.0, -2.0], 1.0, 1 / (1 + math.exp(-1))), ([-2.0, -1.0], 0.0, 1 / (1 + math.e)), ([-3.0, -3.0], 0.0, 0.5)],
)
def test_accuracy_and_trust(path, logprobs, accuracy, trust):
    score = preferences.score(read(path)[0], Said(logprobs=logprobs))
    assert score.values == {"accuracy": accuracy, "log_odds": logprobs[0] - logprobs[1]}
    assert score.trust == pytest.approx(trust)


def test_a_missing_log_likelihood_is_missing(path):
    score = preferences.score(read(path)[0], Said(logprobs=[-1.0, math.nan]))
    assert math.isnan(score.trust) and all(math.isnan(v) for v in score.values.values())


def test_it_runs_on_a_model(path, tiny_folder, tmp_path):
    from preftrace.types import Checkpoint

    config = evaluate.configure("preferences", {"source": "columns", "path": path})
    record = evaluate.run(Checkpoint(str(tiny_folder)), "preferences", config, tmp_path / "e" / "base" / "preferences")
    assert record.summary["items"] == 5 and 0 <= record.summary["trust"]["value"] <= 1
