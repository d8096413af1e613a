import numpy as np
import pytest

from preftrace.evaluate.intervals import cluster_intervals


def one(values, clusters, seed=0, applies=None, **more):
    values = np.asarray(values, dtype=float)[:, None]
    applies = np.ones(values.shape, bool) if applies is None else np.asarray(applies)[:, None]
    return cluster_intervals(values, applies, clusters, seed, **more)[0]


def test_two_clusters_by_hand():
    """Clusters a = {0, 0}, b = {1}: resamples are aa (1/4), ab (1/2), bb (1/4) with means 0, 1/3 and 1.

    The 2.5% and 97.5% quantiles are 0 and 1, and the mean is 1/3.
    """
    assert one([0, 0, 1], ["a", "a", "b"]) == pytest.approx((1 / 3, 0, 1, 3, 0))


def test_items_alone_agree_with_the_normal_interval():
    values = np.random.default_rng(1).normal(3, 2, 400)

    found = one(values, [str(i) for i in range(400)])

    half = 1.96 * values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_copies_in_a_cluster_do_not_narrow_the_interval():
    values = np.random.default_rng(2).normal(size=40)
    clusters = [str(i) for i in range(40)]

    alone, copied = one(values, clusters), one(np.repeat(values, 9), np.repeat(clusters, 9))

    assert copied[:3] == pytest.approx(alone[:3])
    assert one(np.repeat(values, 9), [str(i) for i in range(360)]).high < copied.high


def test_the_vectorised_bootstrap_equals_a_plain_loop():
    rng = np.random.default_rng(3)
    values, clusters = rng.random(30), [str(i % 7) for i in range(30)]
    draws = np.random.default_rng(5).multinomial(7, np.full(7, 1 / 7), size=500)
    means = []
    for weights in draws:
        picked = [v for v, c in zip(values, clusters, strict=True) for _ in range(weights[int(c)])]
        means.append(np.mean(picked))

    found = one(values, clusters, seed=5, resamples=500)

    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_missing_and_inapplicable_values_are_left_out_and_counted():
    found = one([0.2, np.nan, 0.4, np.nan, 0.9], list("abcde"), applies=[True, True, True, False, False])

    assert (found.value, found.n, found.missing) == (pytest.approx(0.3), 2, 1)


@pytest.mark.parametrize(("value", "bounds"), [(0.0, (0, 0.1157)), (1.0, (0.8843, 1))])
def test_none_of_thirty_is_not_certainly_zero(value, bounds):
    """Clopper-Pearson for 0 of 30: the upper bound u solves (1 - u)^30 = 0.025, u = 0.1157."""
    found = one([value] * 30, [str(i) for i in range(30)])

    assert (found.low, found.high) == pytest.approx(bounds, abs=1e-4)


def test_too_few_clusters_have_no_interval():
    alone = one([0.1, 0.4], ["a", "a"])
    nothing = one([np.nan, np.nan], ["a", "b"])

    assert alone.value == pytest.approx(0.25) and np.isnan([alone.low, alone.high]).all()
    assert np.isnan(nothing[:3]).all() and nothing[3:] == (0, 2)


def test_the_interval_is_seeded():
    values, clusters = np.random.default_rng(0).random(20), [str(i) for i in range(20)]

    assert one(values, clusters, 1) == one(values, clusters, 1) != one(values, clusters, 2)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """40 clusters of 3 items that share a normal effect: of 300 intervals 95% should hold 0, and 89% to 98% do."""
    rng = np.random.default_rng(7)
    clusters = [str(i // 3) for i in range(120)]
    held = 0
    for seed in range(300):
        found = one(np.repeat(rng.normal(size=40), 3) + rng.normal(size=120), clusters, seed, resamples=400)
        held += found.low <= 0 <= found.high

    assert 0.89 <= held / 300 <= 0.98
