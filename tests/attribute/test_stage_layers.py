"""The influence stage on some layers and with a pilot, on a tiny run."""

from __future__ import annotations

import numpy as np
import pytest

from preftrace import artifacts
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.influence import run as attribute_stage
from preftrace.attribute.scores import InfluenceScores
from preftrace.engines import Resources
from preftrace.errors import ArtifactError, ConfigError
from preftrace.evaluate.compare import find_evaluations

KEY = ["pair_id", "vertical", "method"]


def again(run, out, resources=None, **options):
    evaluations = find_evaluations(run.folder / "evaluate" / "dpo")
    config = AttributeConfig(baselines=(), show_tokens=0, **options)
    stage = run.folder / "align" / "dpo"
    return InfluenceScores(attribute_stage(stage, run.folder / "pairs", evaluations, out, config, resources=resources))


def test_layers_of_a_run_sum_to_its_scores(tiny_run):
    scores = tiny_run.influence("dpo")
    layers, frame = scores.layers(), scores.frame()
    assert scores.record.summary["layers"] == ["0", "1"] == sorted(set(layers.layer))
    assert scores.record.summary["layers_of_pairs"] == scores.record.summary["pairs"]
    known = frame[frame.method.isin(scores.record.summary["methods"]) & frame.score.notna()].set_index(KEY).score
    sums = layers.groupby(KEY).contribution.sum().loc[known.index]
    assert len(layers) == 2 * len(known)
    assert (sums - known).abs().max() <= 1e-5 * known.abs().max()
    np.testing.assert_allclose(layers.groupby(KEY).share.apply(lambda s: s.abs().sum()), 1, rtol=1e-5)


def test_one_selected_layer_has_the_scores_that_were_its_part(tiny_run, tmp_path):
    """Blocks are inverted by themselves, so that leaving others out changes nothing in those that stay."""
    scores = again(tiny_run, tmp_path / "out", layers=["1"])
    assert set(scores.layers().layer) == {"1"} and scores.record.summary["layers"] == ["1"]
    assert scores.record.summary["parameters"] * 2 == tiny_run.influence("dpo").record.summary["parameters"]
    whole = tiny_run.influence("dpo").layers()
    wanted = whole[whole.layer == "1"].set_index(KEY).contribution
    found = scores.frame().set_index(KEY).score.loc[wanted.index]
    for method in ("identity", "datainf"):
        one, other = (s.xs(method, level="method") for s in (found, wanted))
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()


def test_a_pilot_saves_a_pass_and_its_lambda_is_in_the_record(tiny_run, tmp_path):
    record = again(tiny_run, tmp_path / "out", pilot=4, cache_gb=0).record
    said = record.summary["lambda"]["datainf"]
    assert 4 <= said["pilot_pairs"] <= 8
    exact = tiny_run.influence("dpo").record.summary["lambda"]["datainf"]["median"]
    assert said["exact_median"] == pytest.approx(exact, rel=1e-4)
    assert not list((tmp_path / "out").glob("_*"))


@pytest.mark.slow
@pytest.mark.integration
def test_with_a_pilot_two_workers_give_the_scores_of_one(tiny_run, tmp_path):
    one, two = (again(tiny_run, tmp_path / str(n), Resources(n), pilot=4, cache_gb=0).frame() for n in (1, 2))
    np.testing.assert_array_equal(one.score, two.score)


def test_layers_that_are_not_there_are_told(tiny_run, tmp_path):
    with pytest.raises(ConfigError, match="'7' names no adapted module"):
        again(tiny_run, tmp_path / "out", layers=[7])


def test_a_stage_of_an_older_version_says_that_it_has_no_layers(tiny_run, tmp_path):
    scores = again(tiny_run, tmp_path / "out", methods=("identity",))
    (tmp_path / "out" / "layers.parquet").unlink()
    with pytest.raises(ArtifactError, match="older version"):
        scores.layers()
    assert artifacts.read_table(tmp_path / "out" / "scores.parquet").num_rows
