"""Fidelity of a tiny run: what is trained again, what is measured, and what a kill costs."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

import preftrace
from preftrace import artifacts
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.influence import run as attribute_stage
from preftrace.cli import main
from preftrace.errors import ArtifactError, ConfigError, DataError
from preftrace.study import retrain
from preftrace.study.target import check, open_target

SMALL = {"subsets": 3, "remove": 2, "controls": 2, "resamples": 100}
VERTICAL = "ethics"


@pytest.fixture(scope="module")
def scores(tiny_run, tmp_path_factory):
    """Influence of DPO's pairs on one vertical."""
    record = attribute_stage(
        tiny_run.folder / "align" / "dpo",
        tiny_run.folder / "pairs",
        {VERTICAL: tiny_run.folder / "evaluate" / "dpo" / VERTICAL},
        tmp_path_factory.mktemp("scores") / "dpo",
        AttributeConfig(baselines=("length",)),
    )
    return record.folder


@pytest.fixture(scope="module")
def target(tiny_run, scores):
    return open_target(tiny_run.folder, "dpo", scores)


@pytest.fixture(scope="module")
def ids(tiny_run):
    return [pair.id for pair in tiny_run.pairs()]


@pytest.fixture(scope="module")
def done(tiny_run, scores, tmp_path_factory):
    out = tmp_path_factory.mktemp("validate") / "dpo"
    return preftrace.validate(tiny_run, "dpo", out, scores=scores, **SMALL)


def values(record):
    return artifacts.read_table(record.folder / retrain.VALUES).to_pandas()


def test_the_query_at_the_runs_own_model_is_that_of_its_evaluation(tiny_run, target, tmp_path):
    found = values(retrain.retrain(target, target.queries(), None, tmp_path / "all"))
    options = tiny_run.evaluation("dpo", VERTICAL).options()
    odds = {
        item: np.logaddexp.reduce(o.logprob[o.good]) - np.logaddexp.reduce(o.logprob[~o.good])
        for item, o in options.groupby("item_id")
    }
    assert found.value.sum() == pytest.approx(np.mean(list(odds.values())), abs=1e-4)
    np.testing.assert_allclose(found.value * len(odds), [odds[item] for item in found.item_id], atol=1e-4)


def test_training_again_on_all_pairs_gives_the_runs_own_model(target, ids, tmp_path):
    queries = target.queries()
    own = values(retrain.retrain(target, queries, None, tmp_path / "all"))
    again = values(retrain.retrain(target, queries, ids, tmp_path / "again"))
    np.testing.assert_allclose(again.value, own.value, atol=1e-6)
    assert not list((tmp_path / "again").glob("_*")), "weights are not kept"


def test_what_was_trained_on_is_what_was_drawn(done, ids, scores):
    subsets = done.subsets()
    assert subsets.kind.value_counts().to_dict() == {"subset": 3, "control": 4, "removal": 2}
    halves = subsets[subsets.kind == "subset"]
    assert set(halves.pairs) == {6} and all(set(left) < set(ids) and len(left) == 6 for left in halves.left_out)
    frame = preftrace.InfluenceScores(artifacts.read_record(scores)).frame()
    ranked = frame[frame.method == "datainf"].sort_values("score").pair_id.tolist()
    for side, wanted in (("harmful", ranked[:2]), ("helpful", ranked[-2:])):
        row = subsets[(subsets.kind == "removal") & (subsets.side == side)].iloc[0]
        assert set(row.left_out) == set(wanted) and row.pairs == 10
    assert set(done.values().subset) == {"all", *subsets.subset}


def test_lds_is_the_rank_agreement_of_the_tables(done, scores):
    """Recomputed from what lies in the tables: sums of scores over what a subset keeps, against M."""
    frame = preftrace.InfluenceScores(artifacts.read_record(scores)).frame()
    subsets = done.subsets()
    halves = subsets[subsets.kind == "subset"]
    measured = done.values().set_index("subset").value
    for method in frame.method.unique():
        score = frame[frame.method == method].set_index("pair_id").score
        predicted = [score.drop(list(left)).sum() for left in halves.left_out]
        wanted = np.corrcoef(np.argsort(np.argsort(predicted)), np.argsort(np.argsort(measured[halves.subset])))[0, 1]
        found = done.frame().query("method == @method and vertical == @VERTICAL").iloc[0]
        assert found.lds == pytest.approx(wanted) and found.low <= found.lds <= found.high
    assert set(done.frame()[done.frame().baseline].method) == {"length"}
    assert done.verdict


def test_removal_is_held_against_the_random_groups(done):
    measured = done.values().set_index("subset").value
    subsets = done.subsets()
    for row in done.removal().itertuples():
        mine = subsets[subsets.side == row.side]
        removed = mine[mine.kind == "removal"].subset.iloc[0]
        controls = measured[mine[mine.kind == "control"].subset].to_numpy() - measured["all"]
        assert row.change == pytest.approx(measured[removed] - measured["all"]) and row.low <= row.change <= row.high
        assert row.random == pytest.approx(controls.mean()) and row.controls == 2
        assert row.outside == (not row.random_low <= row.change <= row.random_high)
    predicted = done.removal().set_index("side").predicted
    assert predicted["helpful"] < predicted["harmful"], "without the helpful pairs M is lower"


def test_a_kill_costs_one_model_and_more_subsets_train_only_what_is_new(done, tiny_run, scores, tmp_path, monkeypatch):
    real, trained = retrain.train_stage, []

    def killed(*args, **names):
        trained.append(names["inputs"]["pairs"])
        if len(trained) == 2:
            raise KeyboardInterrupt
        return real(*args, **names)

    def go(subsets):
        only = {"subsets": subsets, "remove": 0, "resamples": 100}
        return preftrace.validate(tiny_run, "dpo", tmp_path / "v", scores=scores, **only)

    monkeypatch.setattr(retrain, "train_stage", killed)
    with pytest.raises(KeyboardInterrupt):
        go(3)
    again = go(3)
    assert len(trained) == 4 and len(set(trained)) == 3, "the one that was killed, and no other, is trained twice"
    merged = again.values().merge(done.values(), on=["subset", "vertical", "measure"])
    assert len(merged) == 4
    np.testing.assert_array_equal(merged.value_x, merged.value_y)
    assert go(3).record == again.record and len(trained) == 4
    assert len(go(4).frame()) and len(trained) == 5


def test_the_command_shows_the_tables_and_the_verdict(done, tiny_run, scores, monkeypatch, capsys):
    words = ["validate", str(tiny_run.folder), "--stage", "dpo", "--subsets", "3", "--remove", "2", "--controls", "2"]
    words += ["--scores", str(scores), "--out", str(done.record.folder)]
    # The command has no --resamples: what is there is of other settings, and nothing is trained for that.
    monkeypatch.setattr(retrain, "train_stage", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr(sys, "argv", ["preftrace", *words])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().out
    assert not end.value.code and "LDS of dpo, 3 subsets of 12 pairs" in said and "2 harmful" in said
    assert "length*" in said and "baseline" in said
    monkeypatch.setattr(sys, "argv", ["preftrace", *words, "--json"])
    with pytest.raises(SystemExit):
        main()
    assert '"lds": [' in capsys.readouterr().out


def test_bad_requests_get_one_message(tiny_run, scores, tmp_path):
    def wrong(**options):
        preftrace.validate(tiny_run, "dpo", tmp_path / "v", scores=scores, **options)

    with pytest.raises(ConfigError, match=r"removal_methods: no scores by 'magic'; known: identity, datainf, length"):
        wrong(removal_methods=["magic"])
    with pytest.raises(DataError, match="dpo trained on 12 pairs: too few to take 6, or to leave out 12"):
        wrong(remove=12)
    with pytest.raises(ConfigError, match="subsets: two subsets have no rank agreement"):
        wrong(subsets=2)
    with pytest.raises(ArtifactError, match=r"holds no influence of 'dpo'\. Run `preftrace attribute"):
        preftrace.validate(tiny_run, "dpo", tmp_path / "v", scores=tmp_path)
    with pytest.raises(ArtifactError, match="has no stage 'orpo'; known: sft, dpo"):
        preftrace.validate(tiny_run, "orpo", tmp_path / "v")
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_changed_since_is_refused(tiny_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    check(open_target(folder, "dpo"))
    study = (folder / "study.yaml").read_text()
    assert "beta: 0.1" in study
    (folder / "study.yaml").write_text(study.replace("beta: 0.1", "beta: 0.2"))
    with pytest.raises(ArtifactError, match="was trained otherwise than"):
        check(open_target(folder, "dpo"))
    path = folder / "evaluate" / "dpo" / VERTICAL / artifacts.RECORD
    artifacts.write_json(path, artifacts.read_json(path) | {"content": "other"})
    with pytest.raises(ArtifactError, match="is of another evaluation of ethics"):
        check(open_target(folder, "dpo"))


@pytest.mark.slow
def test_two_workers_give_the_same_numbers(done, tiny_run, scores, tmp_path):
    other = preftrace.validate(tiny_run, "dpo", tmp_path / "v", scores=scores, workers=2, **SMALL)
    np.testing.assert_allclose(other.values().value, done.values().value, atol=1e-6)
    assert other.frame().equals(done.frame())


THROUGH = """\
name: tiny
model: {model}
preferences: {{source: starter, limit: 12}}
adapter: {{r: 2, alpha: 4}}
stages:
  reward: {{from: base, batch_size: 4, learning_rate: 0.01}}
  ppo: {{from: base, rollouts: 4, batch_size: 4, max_new_tokens: 6, learning_rate: 0.01, kl_coef: 0.2}}
verticals:
  ethics: {{limit: 4, max_new_tokens: 6, batch_size: 2}}
  truthfulness: {{limit: 3, batch_size: 2}}
"""


@pytest.mark.slow
def test_ppo_is_validated_through_its_reward_model_and_the_metric_by_the_policy(tiny_folder, tmp_path):
    (tmp_path / "s.yaml").write_text(THROUGH.format(model=tiny_folder))
    run = preftrace.run(tmp_path / "s.yaml", tmp_path / "run")
    found = preftrace.validate(run, "ppo", subsets=3, remove=0, metric=True)
    assert found.record.summary["trained_again"] == "reward"
    values = found.values()
    assert len(values) == 4 * 2 * 2 and values.value.notna().all()
    trust = values[values.measure == "trust"].set_index(["subset", "vertical"]).value
    for vertical in ("ethics", "truthfulness"):
        own = run.evaluation("ppo", vertical).record.summary["trust"]["value"]
        assert trust["all", vertical] == pytest.approx(own) and trust.xs(vertical, level=1).nunique() > 1
    target = open_target(run.folder, "ppo")
    ids = [pair.id for pair in run.pairs()]
    again = retrain.retrain(target, target.queries(), ids, tmp_path / "again", metric=True)
    whole = values[values.subset == "all"].set_index(["vertical", "measure"]).value
    summed = (
        artifacts.read_table(again.folder / retrain.VALUES).to_pandas().groupby(["vertical", "measure"]).value.sum()
    )
    np.testing.assert_allclose(summed, whole[summed.index], atol=1e-6)
    with pytest.raises(ArtifactError, match=r"'reward' is a reward model.*: validate ppo, which learned from it"):
        preftrace.validate(run, "reward")
