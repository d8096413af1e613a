"""Baselines in the influence stage: beside the methods in its tables, resumed after a kill."""

from __future__ import annotations

import numpy as np
import pytest

from preftrace import artifacts
from preftrace.attribute.baselines import _states
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.influence import run as attribute_stage
from preftrace.attribute.scores import InfluenceScores
from preftrace.evaluate.compare import find_evaluations

EVERY = ("length", "random", "bm25", "embedding", "activation")


def attribute(run, out, stage="dpo", seed=0, **options):
    config = AttributeConfig(**{"methods": ("identity",), "baselines": EVERY, **options})
    record = attribute_stage(
        run.folder / "align" / stage,
        run.folder / "pairs",
        find_evaluations(run.folder / "evaluate" / stage),
        out,
        config,
        seed=seed,
    )
    return InfluenceScores(record)


@pytest.fixture(scope="module")
def scores(tiny_run, tmp_path_factory):
    return attribute(tiny_run, tmp_path_factory.mktemp("baselines") / "dpo")


def test_all_five_stand_in_the_tables_and_the_method_stays_first(scores):
    frame = scores.frame()
    assert list(dict.fromkeys(frame.method)) == ["identity", *EVERY]
    assert (scores.record.summary["methods"], scores.record.summary["baselines"]) == (["identity"], list(EVERY))
    mine = frame[frame.vertical == "truthfulness"]
    assert mine.score.notna().all() and len(mine) == 6 * 12
    assert (mine.effect_of_removal.isna() == (mine.method != "identity")).all()
    assert set(scores.top("truthfulness", 3).method) == {"identity"}
    assert set(scores.top("truthfulness", 3, method="bm25").method) == {"bm25"}
    activation = mine[mine.method == "activation"].score
    assert activation.min() < 0 < activation.max()


def test_baselines_have_a_row_of_recovery_each(tiny_run, scores):
    planted = [pair for pair in tiny_run.pairs() if pair.meta.get("planted")]
    recovered = scores.recovery()
    assert planted and {*recovered[recovered.vertical == "any"].method} == {"identity", *EVERY}
    assert recovered.auc.between(0, 1).all()


def test_a_seed_changes_the_random_one_only(tiny_run, scores, tmp_path):
    other = attribute(tiny_run, tmp_path / "out", seed=1, baselines=("length", "random"))
    assert other.record.identity != scores.record.identity
    one, two = (s.frame().query("vertical == 'ethics'").set_index("method").score for s in (scores, other))
    assert (one["length"].to_numpy() == two["length"].to_numpy()).all()
    assert (one["random"].to_numpy() != two["random"].to_numpy()).all()


def test_sft_looks_at_the_chosen_answer(tiny_run, tmp_path):
    frame = attribute(tiny_run, tmp_path / "out", stage="sft").frame()
    length = frame[(frame.vertical == "ethics") & (frame.method == "length")].set_index("pair_id").score
    tokens = artifacts.read_table(tiny_run.folder / "align/sft/tokens.parquet").to_pandas().set_index("pair_id")
    assert (length == -tokens.chosen_tokens.reindex(length.index)).all()
    assert frame[(frame.vertical == "ethics") & (frame.method == "activation")].score.notna().all()


def test_a_killed_stage_goes_on_where_it_was_and_a_finished_one_is_not_redone(tiny_run, scores, tmp_path, monkeypatch):
    real, calls = _states.StateWorker.run, []

    def counted(self, shard):
        calls.append(shard)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, shard)

    monkeypatch.setattr(_states.StateWorker, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        attribute(tiny_run, tmp_path / "out", baselines=EVERY)
    resumed = attribute(tiny_run, tmp_path / "out", baselines=EVERY)
    # The shard that was killed is the only one that is computed twice.
    assert len(calls) == len({repr(call) for call in calls}) * 2 + 1
    np.testing.assert_array_equal(resumed.frame().score, scores.frame().score)
    done = len(calls)
    attribute(tiny_run, tmp_path / "out", baselines=EVERY)
    assert len(calls) == done
    attribute(tiny_run, tmp_path / "out", baselines=("activation",), activation_layer=0)
    assert len(calls) > done
