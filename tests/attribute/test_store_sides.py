"""A stored score taken apart, by answer and by token: what the parts add up to in `mode: store`.

A stored row is P^T g R, rounded; a direction is kept as P d R^T, so that g . (P d R^T) = (P^T g R) . d: the parts of
the whole gradient add up to the projected score, but for the rounding of the row.
"""

from __future__ import annotations

import numpy as np
import pytest

from preftrace import artifacts, models
from preftrace.attribute import store_build
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.influence import run as attribute_stage
from preftrace.attribute.streaming import DIRECTIONS
from preftrace.models.lora import lora_layers

METHODS = ("identity", "datainf", "exact", "ekfac")
VERTICALS = ("ethics", "stereotypes", "truthfulness")
KEY = ["method", "vertical", "pair_id"]


@pytest.fixture(scope="module")
def stored(tiny_run, tmp_path_factory):
    """`stored(stage, settings)`: scores with sides, tokens, and the directions that the stage worked with."""
    made = {}

    def run(stage="dpo", projection=4, store_dtype="float32"):
        key = (stage, projection, store_dtype)
        if key not in made:
            made[key] = attribute(tiny_run, tmp_path_factory.mktemp("sides"), *key)
        return made[key]

    return run


def attribute(run, home, stage, projection, store_dtype):
    config = AttributeConfig(
        mode="store",
        methods=METHODS,
        damping=0.1,
        baselines=(),
        query_items=4,
        sides=True,
        show_tokens=2,
        projection=projection,
        store_dtype=store_dtype,
    )
    evaluations = {v: run.folder / "evaluate" / stage / v for v in VERTICALS}
    held, plain = {}, artifacts.write_tensors
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_build, "SHARD", 5)
        patch.setattr(artifacts, "write_tensors", lambda path, t: (held.update({path.name: t}), plain(path, t)))
        record = attribute_stage(run.folder / "align" / stage, run.folder / "pairs", evaluations, home / "out", config)
    scores = artifacts.read_table(record.folder / "scores.parquet").to_pandas()
    tokens = artifacts.read_table(record.folder / "tokens.parquet").to_pandas()
    return scores, tokens, held[DIRECTIONS]


def sizes(scores):
    """Largest part of a score, for each method and vertical."""
    largest = scores[["score", "score_chosen", "score_rejected"]].abs().max(axis=1)
    return largest.groupby([scores.method, scores.vertical]).transform("max")


def gap(scores, total):
    """Largest difference of a score and the sum of its parts, over the largest score of its method and vertical."""
    scale = scores.score.abs().groupby([scores.method, scores.vertical]).transform("max")
    return ((total - scores.score).abs() / scale).groupby(scores.method).max()


@pytest.mark.parametrize(("stage", "projection"), [("dpo", 4), ("dpo", 0), ("sft", 4)])
def test_both_answers_parts_add_up_to_the_stored_score(stored, stage, projection):
    scores, _, _ = stored(stage, projection)
    assert scores.score.notna().all() and set(scores.method) == set(METHODS)
    assert scores.score_rejected.isna().all() == (stage == "sft")
    # Rounding of float32, of two sides that are larger than their sum: 2e-6 to 8e-6, by the processor's kernels.
    assert gap(scores, scores.score_chosen + scores.score_rejected.fillna(0)).max() < 1e-4
    if stage == "dpo":
        both = scores[["score_chosen", "score_rejected"]].abs().groupby(scores.method).max()
        assert (both.min(axis=1) > 0.1 * both.max(axis=1)).all(), "or one side could be anything"


@pytest.mark.parametrize("stage", ["dpo", "sft"])
def test_the_tokens_parts_add_up_to_the_stored_score(stored, stage):
    scores, tokens, _ = stored(stage)
    assert set(tokens.method) == set(METHODS)
    assert (tokens.groupby(["method", "vertical"]).pair_id.nunique() >= 2).all()
    total = tokens.groupby(KEY).part.sum()
    shown = scores.set_index(KEY).loc[total.index].reset_index()
    assert gap(shown, total.to_numpy()).max() < 2e-5


def test_the_parts_are_of_the_projected_score_not_of_the_whole_one(stored):
    """The two scores differ by far more than parts and score do."""
    projected, whole = (stored("dpo", projection)[0] for projection in (4, 0))
    assert (gap(whole, projected.score) > 0.01).all()


@pytest.mark.parametrize(("store_dtype", "most"), [("bf16", 0.02), ("int8", 0.1)])
def test_rows_in_fewer_bytes_leave_a_gap_as_large_as_their_rounding(stored, store_dtype, most):
    """Parts are of gradients that are computed anew, and are not rounded."""
    scores, _, _ = stored("dpo", 4, store_dtype)
    found = gap(scores, scores.score_chosen + scores.score_rejected)
    assert ((found > 1e-4) & (found < most)).all()


@pytest.mark.parametrize("projection", [4, 0])
def test_a_direction_is_that_of_a_whole_gradient_in_float32(stored, tiny_run, projection):
    _, _, directions = stored("dpo", projection)
    shapes = {name.partition("/")[2]: value.shape for name, value in directions.items()}
    assert len(directions) == len(METHODS) * len(shapes)
    assert {value.dtype for value in directions.values()} == {np.dtype(np.float32)}
    lm = models.load(models.read_checkpoint(tiny_run.folder / "align" / "dpo"))
    for layer in lora_layers(lm):
        for side, weight in (("A", layer.a), ("B", layer.b)):
            assert shapes[f"{layer.name}.lora_{side}.weight"] == (len(VERTICALS), weight.numel())
