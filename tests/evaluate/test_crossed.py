import math

import numpy as np
import pytest

from preftrace.evaluate import crossed, statistics
from preftrace.evaluate.crossed import Cells


def draw(rng, groups=8, others=5, items=60):
    first, second = rng.integers(0, groups, items), rng.integers(0, others, items)
    values = rng.normal(0.2, 1, groups)[first] + rng.normal(0, 1, others)[second] + rng.normal(0, 1, items)
    return values, [f"g{i}" for i in first], [f"h{i}" for i in second]


def test_differences_are_summed_by_cell_whatever_the_order_of_items():
    data = crossed.by_cell(np.array([0.1, 0.2, -0.4, 1.0]), ["b", "a", "b", "b"], ["x", "y", "x", "y"])
    np.testing.assert_allclose(data.sums, [[0, 0.2], [-0.3, 1.0]])
    np.testing.assert_array_equal(data.sizes, [[0, 1], [2, 1]])


def test_the_variance_is_that_of_both_ways_less_that_of_the_cells():
    """From the items themselves: Cameron, Gelbach and Miller's three one-way sums."""
    values, first, second = draw(np.random.default_rng(1), items=300)
    residuals = values - values.mean()

    def one_way(labels):
        sums = {name: sum(r for r, own in zip(residuals, labels, strict=True) if own == name) for name in set(labels)}
        return sum(s * s for s in sums.values()), len(sums)

    (a, ga), (b, gb), (c, _) = one_way(first), one_way(second), one_way(list(zip(first, second, strict=True)))
    a, b = a * ga / (ga - 1), b * gb / (gb - 1)
    expected = a + b - c
    assert expected > max(a, b), "else the floor would be measured"
    error = crossed.two_way_error(crossed.by_cell(values, first, second))
    assert error == pytest.approx(math.sqrt(expected) / len(values))


def test_the_error_is_never_below_that_of_one_way():
    """Checkerboard cells: every row and column sums to 0, and the formula alone would be negative."""
    sums = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert crossed.two_way_error(Cells(sums, np.ones((2, 2)))) == 0


def test_the_degrees_of_freedom_are_those_of_the_way_that_moves():
    """Rows alone move: 5 - 1. Both alike: 4 + 4."""
    rows, columns = np.arange(5.0)[:, None] - 2, np.arange(5.0)[None, :] - 2
    assert crossed.freedom(Cells(rows + 0 * columns, np.ones((5, 5)))) == pytest.approx(4)
    assert crossed.freedom(Cells(rows + columns, np.ones((5, 5)))) == pytest.approx(8)


def naive(data, generator, resamples, level):
    """One resample at a time, each cell laid out as often as it was drawn."""
    groups, others = data.sums.shape

    def estimate(rows, columns):
        sums, sizes = data.sums[np.ix_(rows, columns)], data.sizes[np.ix_(rows, columns)]
        n = sizes.sum()
        theta = sums.sum() / n
        residual = sums - theta * sizes
        a = (residual.sum(1) ** 2).sum() * groups / (groups - 1)
        b = (residual.sum(0) ** 2).sum() * others / (others - 1)
        return theta, math.sqrt(max(a + b - (residual**2).sum(), a, b)) / n

    theta, error = estimate(range(groups), range(others))
    residual = data.sums - theta * data.sizes
    floor = max(abs(residual.sum(0)).max(), abs(residual.sum(1)).max()) / data.sizes.sum()
    rows = generator.multinomial(groups, np.full(groups, 1 / groups), resamples)
    columns = generator.multinomial(others, np.full(others, 1 / others), resamples)
    t = []
    for row, column in zip(rows, columns, strict=True):
        found, spread = estimate(np.repeat(range(groups), row), np.repeat(range(others), column))
        t.append(abs(found - theta) / max(spread, floor))
    return statistics.studentised(theta, error, np.array(t), crossed.freedom(data), level)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_bootstrap_equals_a_loop_over_resamples(seed):
    data = crossed.by_cell(*draw(np.random.default_rng(seed), items=200))
    fast = crossed.pigeonhole_bootstrap(data, np.random.default_rng(5), 300)
    np.testing.assert_allclose(fast, naive(data, np.random.default_rng(5), 300, 0.95), rtol=1e-9)


def test_p_and_interval_agree():
    for seed in range(5):
        data = crossed.by_cell(*draw(np.random.default_rng(seed)))
        found = crossed.pigeonhole_bootstrap(data, np.random.default_rng(0), 1999)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_nothing_changed_and_everything_changed_alike():
    none = crossed.pigeonhole_bootstrap(Cells(np.zeros((3, 4)), np.ones((3, 4))), np.random.default_rng(0), 100)
    assert (none.difference, none.p, none.error) == (0, 1, 0) and math.isnan(none.low)
    alike = crossed.pigeonhole_bootstrap(Cells(np.full((3, 4), 0.2), np.ones((3, 4))), np.random.default_rng(0), 100)
    assert alike.p == 0.25 and alike.low == alike.high == pytest.approx(0.2)


def test_a_resample_without_an_item_is_left_out():
    """Items on the diagonal only: some draws of rows and columns meet in no item."""
    data = Cells(np.diag([0.2, 0.1, -0.3, 0.4]), np.eye(4))
    found = crossed.pigeonhole_bootstrap(data, np.random.default_rng(0), 500)
    assert np.isfinite(found).all() and found.low < 0.1 < found.high


def test_one_way_only_is_an_error():
    with pytest.raises(ValueError, match="two of each"):
        crossed.pigeonhole_bootstrap(Cells(np.ones((1, 4)), np.ones((1, 4))), np.random.default_rng(0), 100)
