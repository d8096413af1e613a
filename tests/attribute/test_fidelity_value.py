"""A query as a number: its slope is the gradient that influence uses, for every kind of query."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from preftrace import models
from preftrace.attribute.capture import Capture
from preftrace.attribute.fidelity_value import item_values
from preftrace.attribute.objectives import OBJECTIVES
from preftrace.attribute.queries import Query, QueryItem
from preftrace.models.lora import lora_layers
from tests.attribute.conftest import rows

BETA, STEP = 0.3, 1e-4
WEIGHTS = {"log-odds": (1.0, -1.0), "paper": (0.7, -0.7), "margin": (-0.4, 0.4)}


def query_of(lm, kind):
    chosen, rejected = rows(lm)
    weights = WEIGHTS.get(kind, (0.8, -0.3))
    items = tuple(QueryItem(f"i{k}", pair, weights) for k, pair in enumerate(zip(chosen, rejected, strict=True)))
    return Query(kind, items, len(items), 2.5, 0.9, "")


def gradient(lm, query, loss):
    """dM / d(every trained matrix), from the hooks."""
    flat = [row for item in query.items for row in item.rows]
    groups = [k for k, item in enumerate(query.items) for _ in item.rows]
    plain = OBJECTIVES[query.kind](groups, [w for item in query.items for w in item.weights])
    objective = plain
    if query.kind == "paper" and loss["kind"] == "dpo":
        with lm.model.disable_adapter():
            reference = torch.as_tensor(models.completion_logprobs(lm, flat, temperature=query.temperature))

        def objective(values):
            return plain(loss["beta"] * (values - reference))

    with Capture(lm) as capture:
        found = capture.gradients(flat, groups, objective, query.temperature)
    return {name: value.sum(0).numpy() / query.divisor for name, value in found.items()}


@pytest.mark.parametrize("kind", [k for k in OBJECTIVES if k not in ("covariance", "reward-gap")])
@pytest.mark.parametrize("loss", [{"kind": "sft"}, {"kind": "dpo", "beta": BETA}], ids=["sft", "dpo"])
def test_a_small_step_changes_it_as_its_gradient_says(kind, loss, lm64):
    query = query_of(lm64, kind)
    slopes = gradient(lm64, query, loss)
    draw = torch.Generator().manual_seed(5)
    moves, expected = [], 0.0
    for layer in lora_layers(lm64):
        for side, weight in (("A", layer.a), ("B", layer.b)):
            move = torch.randn(weight.shape, generator=draw, dtype=torch.float64)
            moves.append((weight, move))
            expected += float(move.flatten().numpy() @ slopes[f"{layer.name}.lora_{side}.weight"])
    ends = []
    for sign in (1, -2):
        for weight, move in moves:
            weight.data += sign * STEP * move
        ends.append(sum(item_values(lm64, query, loss)))
    assert (ends[0] - ends[1]) / (2 * STEP) == pytest.approx(expected, rel=1e-4)
    assert abs(expected) > 1e-6


def test_items_are_valued_one_by_one_in_order(lm64):
    query = query_of(lm64, "log-odds")
    alone = [item_values(lm64, query._replace(items=(item,)), {"kind": "sft"})[0] for item in query.items]
    np.testing.assert_allclose(item_values(lm64, query, {"kind": "sft"}), alone, rtol=1e-9)
    assert item_values(lm64, query._replace(items=()), {"kind": "sft"}) == []
