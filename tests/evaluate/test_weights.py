import numpy as np
import pytest

from preftrace.evaluate.weights import linearised


def test_the_plain_mean_is_the_weighted_one_by_hand():
    """Values 1, 0, 0 with weights 1, 4, 5: 0.1. The fourth is missing, the fifth does not apply: both stay."""
    values = np.array([[1.0], [0.0], [0.0], [np.nan], [9.0]])
    applies = np.array([[True], [True], [True], [True], [False]])

    found = linearised(values, applies, np.array([[1.0], [4.0], [5.0], [7.0], [7.0]]))

    assert found[:3].mean() == pytest.approx(0.1) and np.isnan(found[3, 0]) and found[4, 0] == 9


def test_equal_weights_change_nothing_at_all():
    values = np.random.default_rng(0).random((20, 2))

    assert np.array_equal(linearised(values, np.ones((20, 2), bool), np.full((20, 2), 3.0)), values)


def test_its_spread_is_that_of_the_ratio():
    """The standard error of the plain mean agrees with the bootstrap of the weighted one."""
    rng = np.random.default_rng(1)
    values, weights = rng.random(400), rng.integers(1, 6, 400).astype(float)
    found = linearised(values[:, None], np.ones((400, 1), bool), weights[:, None])[:, 0]

    drawn = rng.integers(0, 400, (2000, 400))
    boots = (values[drawn] * weights[drawn]).sum(1) / weights[drawn].sum(1)

    assert found.std(ddof=1) / 20 == pytest.approx(boots.std(), rel=0.06)
    assert values.std(ddof=1) / 20 < 0.95 * boots.std()
