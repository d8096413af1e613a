import numpy as np
import pytest
from scipy import stats

from preftrace.evaluate.intervals import cluster_intervals
from preftrace.evaluate.layout import Layout


def one(values, clusters, seed=0, applies=None, crossed=None, units=None, **more):
    values = np.asarray(values, dtype=float)[:, None]
    applies = np.ones(values.shape, bool) if applies is None else np.asarray(applies)[:, None]
    none = [""] * len(values)
    layout = Layout(list(clusters), list(crossed or none), list(units or none))
    return cluster_intervals(values, applies, layout, seed, **more)[0]


def labels(n):
    return [str(i) for i in range(n)]


def test_three_items_by_hand():
    """0.2, 0.4, 0.6: mean 0.4, se 0.2 / sqrt(3) = 0.11547; on the logit scale se / (0.4 * 0.6) = 0.48113.

    logit(0.4) = -0.40547; t[0.975; 2] = 4.30265; ends expit(-0.40547 -+ 2.07014) = 0.0776 and 0.8409.
    """
    assert one([0.2, 0.4, 0.6], "abc") == pytest.approx((0.4, 0.0776, 0.8409, 3, 0), abs=1e-4)


def test_many_items_agree_with_the_normal_interval():
    values = np.random.default_rng(1).beta(2, 3, 400)
    found = one(values, labels(400))
    half = 1.96 * values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.002)


def test_zeros_and_ones_on_their_own_have_wilsons_interval():
    found = one([1.0] * 7 + [0.0] * 23, labels(30))
    expected = stats.binomtest(7, 30).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("scale", [1, 7])
def test_copies_in_a_cluster_do_not_narrow_the_interval(scale):
    """Scale 7: a measure that leaves [0, 1], which is bootstrapped."""
    values = scale * np.random.default_rng(2).random(40)
    alone, copied = one(values, labels(40)), one(np.repeat(values, 9), np.repeat(labels(40), 9))
    assert copied[:3] == pytest.approx(alone[:3])
    assert one(np.repeat(values, 9), labels(360)).high < copied.high


def test_a_second_way_that_moves_the_items_widens_the_interval():
    rng = np.random.default_rng(3)
    ways = [(a, b) for a in range(12) for b in range(12)]
    shift = rng.uniform(0, 0.5, 12)
    values = [shift[b] + rng.uniform(0, 0.5) for a, b in ways]
    clusters, crossed = [str(a) for a, _ in ways], [str(b) for _, b in ways]
    narrow, wide = one(values, clusters), one(values, clusters, crossed=crossed)
    assert wide.value == pytest.approx(narrow.value)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_ways_to_ask_the_same_count_as_one():
    """Unit u is 0, 0 and 0.6: 0.2. With 0.4 and 0.9 alone the mean is 0.5 over three."""
    found = one([0.0, 0.0, 0.6, 0.4, 0.9], "aaabc", units=["u", "u", "u", "", ""])
    assert (found.value, found.n) == (pytest.approx(0.5), 3)


def test_missing_and_inapplicable_values_are_left_out_and_counted():
    found = one([0.2, np.nan, 0.4, np.nan, 0.9], list("abcde"), applies=[True, True, True, False, False])
    assert (found.value, found.n, found.missing) == (pytest.approx(0.3), 2, 1)


@pytest.mark.parametrize(("value", "bounds"), [(0.0, (0, 0.1157)), (1.0, (0.8843, 1))])
def test_none_of_thirty_is_not_certainly_zero(value, bounds):
    """Clopper-Pearson for 0 of 30: the upper bound u solves (1 - u)^30 = 0.025, u = 0.1157."""
    found = one([value] * 30, labels(30))
    assert (found.low, found.high) == pytest.approx(bounds, abs=1e-4)


def test_too_few_clusters_have_no_interval():
    alone = one([0.1, 0.4], ["a", "a"])
    nothing = one([np.nan, np.nan], ["a", "b"])
    assert alone.value == pytest.approx(0.25) and np.isnan([alone.low, alone.high]).all()
    assert np.isnan(nothing[:3]).all() and nothing[3:] == (0, 2)


def test_the_bootstrap_of_other_measures_is_seeded():
    values, clusters = np.random.default_rng(0).normal(0, 3, 60), labels(60)
    found = [one(values, clusters, seed, resamples=100) for seed in (0, 0, 1, 2, 3, 4)]
    assert found[0] == found[1] and len(set(found)) > 1


@pytest.mark.parametrize(("kind", "clusters"), [("rates", 10), ("log-odds", 40)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(kind, clusters):
    """Clusters of 3 items that share an effect: of 300 intervals 95% should hold the mean (standard error 1.3%)."""
    rng = np.random.default_rng(7)
    names = [str(i // 3) for i in range(3 * clusters)]
    held = 0
    for seed in range(300):
        values = np.repeat(rng.normal(0.3, 1, clusters), 3) + rng.normal(size=3 * clusters)
        truth = 0.3
        if kind == "rates":
            values, truth = stats.norm.cdf(values), stats.norm.cdf(0.3 / np.sqrt(3))
        found = one(values, names, seed, resamples=200)
        held += found.low <= truth <= found.high
    assert 0.91 <= held / 300 <= 0.98
