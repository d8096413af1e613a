import math

import numpy as np
import pytest
from scipy import stats

from preftrace.evaluate import crossed
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


def test_the_error_is_never_below_that_of_one_way_and_is_that_of_cells_where_both_ways_cancel():
    """Rows alone move, and columns vary less than cells do; then a checkerboard, whose rows and columns sum to 0."""
    rows = Cells(np.array([[1.0, 0.9], [-1.0, -0.9]]), np.ones((2, 2)))
    first, second, cell = crossed.variances(rows)
    assert first + second - cell < first and crossed.two_way_error(rows) == pytest.approx(math.sqrt(first))
    board = Cells(np.array([[1.0, -1.0], [-1.0, 1.0]]), np.ones((2, 2)))
    found = crossed.two_way_test(board)
    assert found.error == pytest.approx(0.5) and found.low < -1 and found.high > 1 and found.p == 1


def test_the_degrees_of_freedom_are_those_of_the_way_that_moves():
    """Rows alone move: 5 - 1. Both alike: 4 + 4."""
    rows, columns = np.arange(5.0)[:, None] - 2, np.arange(5.0)[None, :] - 2
    assert crossed.freedom(Cells(rows + 0 * columns, np.ones((5, 5)))) == pytest.approx(4)
    assert crossed.freedom(Cells(rows + columns, np.ones((5, 5)))) == pytest.approx(8)


def test_p_and_interval_agree():
    for seed in range(5):
        data = crossed.by_cell(*draw(np.random.default_rng(seed)))
        found = crossed.two_way_test(data)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_nothing_changed_and_everything_changed_alike():
    none = crossed.two_way_test(Cells(np.zeros((3, 4)), np.ones((3, 4))))
    assert (none.difference, none.p, none.error) == (0, 1, 0) and math.isnan(none.low)
    alike = crossed.two_way_test(Cells(np.full((3, 4), 0.2), np.ones((3, 4))))
    assert alike.p == 0.25 and alike.low == alike.high == pytest.approx(0.2)


def test_p_is_students_with_the_degrees_of_freedom_of_both_ways():
    """Items on the diagonal only: both ways say the same; 3 + 3 degrees of freedom."""
    values = np.array([0.2, 0.1, -0.3, 0.4])
    found = crossed.two_way_test(Cells(np.diag(values), np.eye(4)))
    assert found.difference == pytest.approx(values.mean()) and found.low < 0.1 < found.high
    assert crossed.freedom(Cells(np.diag(values), np.eye(4))) == pytest.approx(6)
    assert found.p == pytest.approx(2 * stats.t.sf(values.mean() / found.error, 6))


def test_one_way_only_is_an_error():
    with pytest.raises(ValueError, match="two of each"):
        crossed.two_way_test(Cells(np.ones((1, 4)), np.ones((1, 4))))
