"""A model that stops answering is seen, whatever its trust."""

import math

import pytest

from preftrace.evaluate import configure, load, rows
from preftrace.evaluate.rows import Answered
from preftrace.types import Item

SAID = {"sample": 0, "seed": 0, "response_ids": [1], "finished": True}


def answered(vertical, *responses, **options):
    item: Item = load(vertical).items(configure(vertical, {"limit": 1, **options}), 0)[0]
    likely = tuple({"option": i, "logprob": -1.0, "tokens": 1} for i in range(len(item.options)))
    drawn = tuple({**SAID, "item_id": item.id, "sample": i, "response": text} for i, text in enumerate(responses))
    return Answered(item, "asked", drawn, likely)


@pytest.mark.parametrize(("responses", "share"), [(("", "  \n", "His bag."), 2 / 3), (("a", "b"), 0.0), (("",), 1.0)])
def test_empty_answers_are_a_measure_of_their_own(responses, share):
    module = load("privacy")
    (judged,) = rows.judge(module, [answered("privacy", *responses)], None)
    assert judged.score.values["empty_rate"] == pytest.approx(share)
    assert judged.score.trust == 1.0
    assert rows.items_table(module, [judged]).column("empty_rate").to_pylist() == [pytest.approx(share)]
    found = rows.summary(module, [judged], 0)["metrics"]["empty_rate"]
    assert found["value"] == pytest.approx(share) and found["better"] == "lower"


def test_where_nothing_is_drawn_nothing_is_empty():
    module = load("bbq")
    (judged,) = rows.judge(module, [answered("bbq")], None)
    assert "empty_rate" not in judged.score.values and not math.isnan(judged.score.trust)
    assert "empty_rate" not in rows.items_table(module, [judged]).column_names
    assert "empty_rate" not in rows.summary(module, [judged], 0)["metrics"]
