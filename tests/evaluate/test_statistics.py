import math

import numpy as np
import pytest
from scipy import stats

from preftrace.evaluate import statistics
from preftrace.evaluate.statistics import Clusters


def one_item_clusters(differences):
    return Clusters(np.asarray(differences, dtype=float), np.ones(len(differences)))


def test_differences_are_summed_by_cluster_whatever_the_order_of_items():
    data = statistics.by_cluster(np.array([0.1, 0.2, -0.4]), ["b", "a", "b"])
    np.testing.assert_allclose(data.sums, [0.2, -0.3])
    np.testing.assert_array_equal(data.sizes, [1, 2])
    turned = statistics.by_cluster(np.array([-0.4, 0.2, 0.1]), ["b", "a", "b"])
    np.testing.assert_array_equal(turned.sums, data.sums)


def test_ratio_and_error_by_hand():
    """Clusters S = (2, 0, 1), N = (2, 1, 1), drawn (1, 2, 0) times.

    theta = (2 + 0) / (2 + 2) = 0.5; residuals S - theta N = (1, -0.5, .); spread = 1 * 1 + 2 * 0.25 = 1.5;
    se = sqrt(1.5 * 3/2) / 4 = 0.375.
    """
    theta, error = statistics.ratio_and_error(
        np.array([[1, 2, 0]]), Clusters(np.array([2.0, 0, 1]), np.array([2.0, 1, 1]))
    )
    assert theta[0] == pytest.approx(0.5)
    assert error[0] == pytest.approx(0.375)


def test_error_of_single_item_clusters_is_the_standard_error_of_the_mean():
    d = np.random.default_rng(0).normal(size=40)
    _, error = statistics.ratio_and_error(np.ones((1, 40), np.int64), one_item_clusters(d))
    assert error[0] == pytest.approx(stats.sem(d))


def test_chunks_of_resamples_are_the_same_draws_as_one_chunk(monkeypatch):
    whole = np.concatenate(list(statistics.resample_counts(np.random.default_rng(3), 7, 50)))
    monkeypatch.setattr(statistics, "CHUNK_CELLS", 30)
    chunks = list(statistics.resample_counts(np.random.default_rng(3), 7, 50))
    assert len(chunks) == 13
    np.testing.assert_array_equal(np.concatenate(chunks), whole)
    np.testing.assert_array_equal(whole.sum(1), np.full(50, 7))


def naive_balance(sizes):
    """1 / E[sum of squared residuals] / Var(sum), by the matrix that takes sums of variance N^2 to residuals."""
    share = sizes / sizes.sum()
    to_residuals = np.eye(len(sizes)) - np.outer(share, np.ones(len(sizes)))
    variance = np.diag(sizes**2)
    return np.trace(variance) / np.trace(to_residuals @ variance @ to_residuals.T)


@pytest.mark.parametrize("sizes", [[3, 3, 3, 3], [1, 2, 8], [9, *[1] * 9]])
def test_the_error_is_scaled_to_be_unbiased_where_clusters_move_together(sizes):
    sizes = np.array(sizes, dtype=float)
    assert statistics.balance(sizes) == pytest.approx(naive_balance(sizes))
    assert statistics.balance(np.full(7, 2.0)) == pytest.approx(7 / 6)


def naive_bootstrap(data, generator, resamples, level):
    """One resample at a time, from the clusters themselves, with the textbook formulas and the same draws."""
    groups = len(data.sums)

    def estimate(drawn):
        s, n = data.sums[drawn], data.sizes[drawn]
        theta = s.sum() / n.sum()
        variance = groups / (groups - 1) * ((s - theta * n) ** 2).sum() / n.sum() ** 2
        return theta, math.sqrt(variance)

    theta, error = estimate(np.arange(groups))
    error *= math.sqrt(naive_balance(data.sizes) * (groups - 1) / groups)
    floor = max(abs(s - theta * n) for s, n in zip(data.sums, data.sizes, strict=True)) / data.sizes.sum()
    draws = generator.integers(0, groups, (resamples, groups))
    t = sorted(abs(a - theta) / max(b, floor) for a, b in (estimate(row) for row in draws))
    p = (1 + sum(value >= abs(theta) / error for value in t)) / (1 + resamples)
    quantile = t[math.ceil(level * (resamples - 1))]
    half = max(quantile, stats.t.ppf((1 + level) / 2, groups - 1)) * error
    return theta, theta - half, theta + half, max(p, 2 * stats.t.sf(abs(theta) / error, groups - 1))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bootstrap_equals_a_loop_over_resamples(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, 25).astype(float)
    data = Clusters(rng.normal(0.1, 0.4, 25) * sizes, sizes)
    fast = statistics.cluster_bootstrap(data, np.random.default_rng(9), 500, 0.95)
    slow = naive_bootstrap(data, np.random.default_rng(9), 500, 0.95)
    np.testing.assert_allclose(fast[:4], slow, rtol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_p_and_interval_agree(seed):
    rng = np.random.default_rng(seed)
    data = one_item_clusters(rng.normal(0.25, 0.5, 20))
    estimate = statistics.cluster_bootstrap(data, rng, 1999)
    assert (estimate.p < 0.05) == (estimate.low > 0 or estimate.high < 0)
    assert 0 < estimate.p <= 1


def test_repeating_every_item_of_a_cluster_changes_nothing():
    """Ten copies of an item in one cluster are no further evidence."""
    d = np.random.default_rng(1).normal(0.2, 1, 30)
    once = statistics.cluster_bootstrap(one_item_clusters(d), np.random.default_rng(0), 999)
    tenfold = statistics.cluster_bootstrap(Clusters(10 * d, np.full(30, 10.0)), np.random.default_rng(0), 999)
    np.testing.assert_allclose(once, tenfold)


def test_one_cluster_cannot_be_judged():
    estimate = statistics.cluster_bootstrap(one_item_clusters([0.3]), np.random.default_rng(0), 100)
    assert estimate.difference == pytest.approx(0.3)
    assert all(math.isnan(value) for value in estimate[1:])


def test_no_change_has_p_one_and_no_interval():
    estimate = statistics.cluster_bootstrap(one_item_clusters([0, 0, 0]), np.random.default_rng(0), 100)
    assert (estimate.difference, estimate.p, estimate.error) == (0, 1, 0)
    assert math.isnan(estimate.low)


@pytest.mark.parametrize(("groups", "p"), [(2, 0.5), (3, 0.25), (30, 1 / 1000)])
def test_the_same_change_everywhere_has_the_p_of_a_sign_test(groups, p):
    estimate = statistics.cluster_bootstrap(one_item_clusters([0.1] * groups), np.random.default_rng(0), 999)
    assert estimate.p == pytest.approx(p)
    assert estimate.low == estimate.high == pytest.approx(0.1)


def test_few_changed_clusters_keep_a_finite_interval():
    """3 of 30 changed: 4% of the resamples hold none of them and have no spread of their own."""
    estimate = statistics.cluster_bootstrap(one_item_clusters([1] * 3 + [0] * 27), np.random.default_rng(0), 9999)
    assert -0.2 < estimate.low < 0 < estimate.high < 0.4
    assert estimate.p > 0.05


def test_rule_of_three():
    """(1 - d)^30 = 0.025 at d = 0.1157; one-sided at 0.05 it is the rule of three: 3/30."""
    assert statistics.no_change_bound(30) == pytest.approx(1 - 0.025 ** (1 / 30))
    assert statistics.no_change_bound(1000, level=0.9) == pytest.approx(3 / 1000, rel=0.01)


def test_fewest_changes_reach_the_power():
    """At alpha 0.05 a sign test needs 6 changes one way (2 / 2^6 = 0.031); 5 give 0.0625."""
    share = statistics.fewest_changes(30, 0.05, 0.8)
    assert stats.binom.sf(5, 30, share) == pytest.approx(0.8)
    assert statistics.fewest_changes(5, 0.05, 0.8) == math.inf


def test_minimum_detectable_effect_by_hand():
    """t[0.975; 29] + t[0.8; 29] = 2.0452 + 0.8542 standard errors."""
    assert statistics.minimum_detectable([statistics.Part(0.1, 29)], 0.05, 0.8) == pytest.approx(0.28994, rel=1e-3)


def test_holm_by_hand():
    """Sorted 0.01 0.02 0.03 0.5 times 4 3 2 1 = 0.04 0.06 0.06 0.5 (kept rising); NaN is no test."""
    p = np.array([0.03, 0.01, math.nan, 0.5, 0.02])
    np.testing.assert_allclose(statistics.holm(p), [0.06, 0.04, math.nan, 0.5, 0.06])


def test_benjamini_hochberg_by_hand():
    """Sorted 0.01 0.02 0.03 0.5 times 4/1 4/2 4/3 4/4 = 0.04 0.04 0.04 0.5."""
    p = np.array([0.03, 0.01, math.nan, 0.5, 0.02])
    np.testing.assert_allclose(statistics.benjamini_hochberg(p), [0.04, 0.04, math.nan, 0.5, 0.04])


def test_adjusting_nothing_gives_nothing():
    for adjust in (statistics.holm, statistics.benjamini_hochberg):
        assert len(adjust(np.array([]))) == 0
        assert np.isnan(adjust(np.array([math.nan]))).all()
        np.testing.assert_array_equal(adjust(np.array([0.7, 0.9])), adjust(np.array([0.7, 0.9])).clip(0, 1))


def draw(kind, groups, rng):
    """Clustered differences whose true mean is known."""
    ones = np.ones(groups)
    if kind == "normal":
        return Clusters(rng.normal(0.3, 1, groups), ones), 0.3
    if kind == "skewed":
        return Clusters(rng.exponential(1, groups), ones), 1.0
    if kind == "sparse":
        return Clusters(rng.choice([1.0, -1.0, 0.0], groups, p=[0.15, 0.05, 0.8]), ones), 0.1
    if kind == "shares":
        before, after = rng.beta(0.3, 3, groups), rng.beta(0.3, 2, groups)
        return Clusters((rng.binomial(5, after) - rng.binomial(5, before)) / 5, ones), 0.3 / 2.3 - 0.3 / 3.3
    sizes = 1.0 + rng.poisson(2, groups)
    return Clusters(sizes * rng.normal(0, 0.5, groups) + rng.normal(0, 1, groups) * np.sqrt(sizes), sizes), 0.0


def coverage(kind, groups, repeats, resamples, seed=0):
    rng = np.random.default_rng(seed)
    inside = 0
    for _ in range(repeats):
        data, truth = draw(kind, groups, rng)
        estimate = statistics.cluster_bootstrap(data, rng, resamples)
        inside += estimate.low - 1e-12 <= truth <= estimate.high + 1e-12
    return inside / repeats


@pytest.mark.parametrize("kind", ["normal", "clustered", "sparse", "shares"])
def test_interval_covers_the_truth_at_30_clusters(kind):
    """300 repeats: the standard error of a coverage of 0.95 is 0.013."""
    assert 0.91 <= coverage(kind, 30, 300, 299) <= 0.99


def test_false_positive_rate_at_30_clusters():
    rng = np.random.default_rng(5)
    p = [statistics.cluster_bootstrap(draw("clustered", 30, rng)[0], rng, 299).p for _ in range(400)]
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.085


@pytest.mark.slow
@pytest.mark.parametrize("groups", [10, 30, 60])
@pytest.mark.parametrize(
    ("kind", "least"), [("normal", 0.94), ("clustered", 0.94), ("shares", 0.945), ("skewed", 0.90), ("sparse", 0.86)]
)
def test_interval_coverage_at_length(kind, least, groups):
    """4,000 repeats of 999 resamples: standard error 0.0035. docs/statistics.md has the table."""
    measured = coverage(kind, groups, 4000, 999)
    print(f"\ncoverage {kind} G={groups}: {measured:.4f}")
    assert least <= measured <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("groups", [10, 30, 60])
@pytest.mark.parametrize("kind", ["clustered", "sparse"])
def test_false_positive_rate_at_length(kind, groups):
    rng = np.random.default_rng(groups)
    found = 0
    for _ in range(4000):
        data = draw("clustered", groups, rng)[0]
        if kind == "sparse":
            data = one_item_clusters(rng.choice([1.0, -1.0, 0.0], groups, p=[0.1, 0.1, 0.8]))
        found += statistics.cluster_bootstrap(data, rng, 999).p < 0.05
    print(f"\nfalse positives {kind} G={groups}: {found / 4000:.4f}")
    assert found / 4000 <= 0.06
