import math

import numpy as np
import pytest
from scipy import stats

from preftrace.evaluate import rates, statistics
from preftrace.evaluate.rates import Table


@pytest.mark.parametrize(("count", "n"), [(0, 12), (3, 12), (12, 12), (81, 263)])
def test_wilson_is_scipys(count, n):
    expected = stats.binomtest(count, n).proportion_ci(0.9, method="wilson")
    assert rates.wilson(count, n, 0.9) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("gained", "lost"), [(5, 0), (0, 6), (7, 2), (4, 4), (0, 0)])
def test_mcnemar_p_is_the_binomial_test(gained, lost):
    estimate = rates.mcnemar(Table(10, gained, lost, 9))
    assert estimate.p == pytest.approx(stats.binomtest(gained, max(gained + lost, 1)).pvalue if gained + lost else 1)
    assert estimate.difference == pytest.approx((gained - lost) / (19 + gained + lost))
    assert estimate.low <= estimate.difference <= estimate.high


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        (Table(36, 12, 2, 0), 0.0569, 0.3404),
        (Table(53, 0, 0, 1), None, None),
        (Table(20, 4, 9, 17), None, None),
        (Table(2, 9, 8, 1), None, None),
    ],
)
def test_the_interval_is_newcombes_method_10(table, low, high):
    """Square and add of both Wilson intervals, from scipy's; the first table's ends are those that Newcombe prints."""
    estimate = rates.mcnemar(table)
    n = sum(table)
    before, after = (table.both + table.lost) / n, (table.both + table.gained) / n
    (l1, u1), (l2, u2) = (
        stats.binomtest(round(rate * n), n).proportion_ci(method="wilson") for rate in (after, before)
    )
    margins = math.prod([table.both + table.lost, table.gained + table.neither, table.both + table.gained])
    margins *= table.lost + table.neither
    product = table.both * table.neither - table.gained * table.lost
    phi = 0.0 if margins == 0 else (max(product - n / 2, 0) if product > 0 else product) / math.sqrt(margins)
    down = math.sqrt((after - l1) ** 2 - 2 * phi * (after - l1) * (u2 - before) + (u2 - before) ** 2)
    up = math.sqrt((u1 - after) ** 2 - 2 * phi * (u1 - after) * (before - l2) + (before - l2) ** 2)
    assert (estimate.low, estimate.high) == pytest.approx((after - before - down, after - before + up), abs=1e-9)
    if low is not None:
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-4)


def test_the_error_by_hand():
    """Bonett-Price, 6 gained and 1 lost of 30: cells 7/32 and 2/32, variance (9/32 - 25/1024) / 32 = 0.0080261."""
    assert rates.mcnemar(Table(11, 6, 1, 12)).error == pytest.approx(math.sqrt(0.0080261), rel=1e-4)


def test_adjustments_wilson_and_mcnemar_are_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed")
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.proportion import proportion_confint

    p = np.random.default_rng(0).random(17) ** 3
    for method, ours in (("holm", statistics.holm), ("fdr_bh", statistics.benjamini_hochberg)):
        np.testing.assert_allclose(multitest.multipletests(p, method=method)[1], ours(p))
    assert rates.wilson(7, 41) == pytest.approx(proportion_confint(7, 41, method="wilson"))
    exact = mcnemar([[20, 3], [11, 8]], exact=True).pvalue
    assert rates.mcnemar(Table(20, 3, 11, 8)).p == pytest.approx(exact)


def test_benjamini_hochberg_is_scipys():
    p = np.random.default_rng(1).random(23) ** 2
    np.testing.assert_allclose(statistics.benjamini_hochberg(p), stats.false_discovery_control(p))
