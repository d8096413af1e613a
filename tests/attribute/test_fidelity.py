"""The maths of fidelity on cases that are worked out by hand, and on a linear problem where influence must predict."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import spearmanr

from preftrace.attribute import fidelity
from preftrace.attribute.fidelity_config import FidelityConfig
from preftrace.attribute.fidelity_result import MEAN, lds_table

N, M = 40, 30


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def lds(predicted, actual, resamples=200):
    return fidelity.agreement(predicted, actual, fidelity.resample(len(predicted), resamples, 0))


def test_subsets_are_seeded_halves_and_more_of_them_begin_with_the_same():
    few, many = fidelity.subsets(11, 5, 0.5, 3), fidelity.subsets(11, 9, 0.5, 3)
    assert (many.sum(1) == 6).all() and (many[:5] == few).all()
    assert len({row.tobytes() for row in many}) == 9
    assert (fidelity.subsets(11, 5, 0.5, 4) != few).any()
    assert fidelity.subsets(4, 1, 0.01, 0).sum() == 1


def test_a_prediction_is_the_sum_of_the_subsets_scores_over_n():
    """Pairs 0 and 2 of three: (1 - 4) / 3; a pair without a score counts as 0, a vertical without any is NaN."""
    members = np.array([[True, False, True], [False, True, True]])
    scores = np.array([[1.0, np.nan, np.nan], [2.0, 6.0, np.nan], [-4.0, 3.0, np.nan]])
    np.testing.assert_allclose(fidelity.predictions(members, scores), [[-1, 1, np.nan], [-2 / 3, 3, np.nan]])


def test_rank_correlation_is_spearmans_with_ties(rng):
    x, y = rng.integers(0, 5, (6, 20)).astype(float), rng.normal(size=(6, 20))
    wanted = [spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(fidelity.rank_correlation(x, y), wanted)
    assert np.isnan(fidelity.rank_correlation(np.ones(5), y[0, :5]))
    assert np.isnan(fidelity.rank_correlation(np.array([1, np.nan, 2]), np.array([1.0, 2, 3])))


def test_a_linear_model_is_predicted_whole_and_its_sign_matters(rng):
    """M(S) = 3 + 5 sum_{k in S} s_k / n: the scores order all subsets rightly, their negatives all wrongly."""
    scores, members = rng.normal(size=(N, 2)), fidelity.subsets(N, M, 0.5, 0)
    actual = 3 + 5 * fidelity.predictions(members, scores)
    right, wrong = (
        lds(fidelity.predictions(members, scores), actual),
        lds(fidelity.predictions(members, -scores), actual),
    )
    np.testing.assert_allclose(right.value, 1)
    np.testing.assert_allclose(wrong.value, -1)
    assert right.interval(0) == pytest.approx((1, 1)) and wrong.interval(2) == pytest.approx((-1, -1))
    assert right.verticals == 2


def test_scores_that_say_nothing_have_an_interval_around_zero(rng):
    members = fidelity.subsets(N, 200, 0.5, 0)
    found = lds(fidelity.predictions(members, rng.normal(size=(N, 1))), rng.normal(size=(200, 1)))
    low, high = found.interval(0)
    assert low < 0 < high and high - low < 0.5 and low < found.value[0] < high


def test_the_mean_is_over_the_verticals_that_have_an_lds(rng):
    """Columns with 1, -1 and no LDS: the mean is 0, over two, in the plain value and in every resample."""
    members, scores = fidelity.subsets(N, M, 0.5, 0), rng.normal(size=(N, 3))
    actual = fidelity.predictions(members, scores * [1, -1, 1])
    scores[:, 2] = np.nan
    found = lds(fidelity.predictions(members, scores), actual)
    np.testing.assert_allclose(found.value, [1, -1, np.nan, 0], atol=1e-12)
    np.testing.assert_allclose(found.resampled[:, 3], 0, atol=1e-12)
    assert found.verticals == 2 and all(math.isnan(end) for end in found.interval(2))


def test_the_table_ranks_methods_within_a_vertical(rng):
    members, scores = fidelity.subsets(N, M, 0.5, 0), rng.normal(size=(N, 1))
    actual = fidelity.predictions(members, scores)
    noisy = fidelity.predictions(members, scores + rng.normal(size=(N, 1)))
    found = {"query": {"noisy": lds(noisy, actual), "true": lds(actual, actual), "none": lds(actual * np.nan, actual)}}
    rows = lds_table(found, ["v"], ["noisy"], M).to_pylist()
    assert [(r["method"], r["vertical"], r["rank"]) for r in rows] == [
        *[("noisy", "v", 2), ("true", "v", 1), ("none", "v", None)],
        *[("noisy", MEAN, 2), ("true", MEAN, 1), ("none", MEAN, None)],
    ]
    assert [r["baseline"] for r in rows[:3]] == [True, False, False] and rows[1]["low"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("noise", "told"),
    [((0.0, 3.0), "beats every baseline"), ((3.0, 0.0), "No influence method beats the best baseline")],
)
def test_the_verdict_says_who_is_ahead(noise, told, rng):
    members, scores = fidelity.subsets(N, M, 0.5, 0), rng.normal(size=(N, 1))
    actual = fidelity.predictions(members, scores)
    method, baseline = (fidelity.predictions(members, scores + s * rng.normal(size=(N, 1))) for s in noise)
    found = {"a": lds(method, actual), "b": lds(baseline, actual), "worse": lds(-actual, actual)}
    best = fidelity.contest(found, ["b"])
    assert (best.method, best.baseline) == ("a", "b") and told in best.words()
    assert best.low <= best.difference <= best.high
    assert fidelity.contest({"a": found["a"]}, ["b"]) is None


def test_a_lead_that_could_be_chance_is_said_to_be_unclear():
    assert "but not clearly" in fidelity.Contest("a", "b", 0.1, -0.1, 0.3).words()


def test_a_method_with_fewer_verticals_does_not_win_by_that(rng):
    members, scores = fidelity.subsets(N, M, 0.5, 0), rng.normal(size=(N, 2))
    actual = fidelity.predictions(members, scores)
    part = fidelity.predictions(members, np.where([True, False], scores, np.nan))
    whole = fidelity.predictions(members, scores + 0.5 * rng.normal(size=(N, 2)))
    found = {"part": lds(part, actual), "whole": lds(whole, actual), "b": lds(-actual, actual)}
    assert fidelity.contest(found, ["b"]).method == "whole"


def test_extreme_takes_the_ends_and_no_pair_without_a_score():
    scores = np.array([3.0, np.nan, -5.0, 1.0, 3.0, -5.0])
    assert fidelity.extreme(scores, 1, harmful=False).tolist() == [0]
    assert fidelity.extreme(scores, 3, harmful=False).tolist() == [0, 3, 4]
    assert fidelity.extreme(scores, 2, harmful=True).tolist() == [2, 5]


def test_controls_are_matched_in_length_seeded_and_of_the_groups_size(rng):
    lengths = rng.permutation(np.arange(40))
    group = np.flatnonzero(lengths < 8)
    drawn = fidelity.matched(lengths, group, 6, [0, 5])
    assert all(len(set(g.tolist())) == 8 and (lengths[g] < 10).all() for g in drawn)
    assert len({g.tobytes() for g in drawn}) > 1
    again = fidelity.matched(lengths, group, 6, [0, 5])
    assert all((a == b).all() for a, b in zip(drawn, again, strict=True))


def test_a_prediction_interval_is_students():
    """Changes 0 and 2: mean 1, sd sqrt(2), half-width 12.706 sqrt(2) sqrt(1.5)."""
    spread = fidelity.prediction_interval(np.array([0.0, 2.0]))
    half = 12.7062 * math.sqrt(3)
    assert spread.mean == 1 and spread.low == pytest.approx(1 - half, rel=1e-4)
    assert spread.outside(1 + 1.01 * half) and not spread.outside(1 + 0.99 * half)


def test_influence_predicts_ridge_regressions_retrained_on_halves(rng):
    """Exact influence of ridge regression: score_k = grad M . H^-1 x_k residual_k at the model of all pairs."""
    n, d, penalty = 200, 6, 1.0
    x, truth, asked = rng.normal(size=(n, d)), rng.normal(size=d), rng.normal(size=(3, d))
    y = x @ truth + rng.normal(size=n)

    def fit(rows):
        return np.linalg.solve(
            x[rows].T @ x[rows] / len(rows) + penalty / n * np.eye(d), x[rows].T @ y[rows] / len(rows)
        )

    theta = fit(np.arange(n))
    hessian = x.T @ x / n + penalty / n * np.eye(d)
    scores = ((y - x @ theta)[:, None] * x) @ np.linalg.solve(hessian, asked.T)
    members = fidelity.subsets(n, 60, 0.5, 0)
    actual = np.stack([asked @ fit(np.flatnonzero(row)) for row in members])
    assert lds(fidelity.predictions(members, scores), actual).value.min() > 0.9
    assert lds(fidelity.predictions(members, -scores), actual).value.max() < -0.9


@pytest.mark.parametrize("wrong", [{"subsets": 2}, {"remove": 2.5}, {"fraction": 1.0}, {"controls": 1}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        FidelityConfig(**wrong)


def test_a_removal_is_a_share_or_a_count():
    assert FidelityConfig(remove=0.1).removed(30) == 3 and FidelityConfig(remove=7).removed(30) == 7
