"""Methods as coefficients against the double loop over pairs that their papers write."""

from __future__ import annotations

import numpy as np
import pytest

from preftrace.attribute.methods import datainf, identity
from preftrace.attribute.methods._base import Dots

N, Q = 17, 3
SIZES = [6, 40, 11]


@pytest.fixture
def gradients():
    rng = np.random.default_rng(0)
    scale = [1.0, 3.0, 0.01]
    g = [s * rng.standard_normal((N, d)) for s, d in zip(scale, SIZES, strict=True)]
    v = [rng.standard_normal((Q, d)) for d in SIZES]
    return g, v


def dots(g, v, part=slice(None)):
    norm2 = np.stack([(x**2).sum(1) for x in g], 1)
    query = np.stack([x @ y.T for x, y in zip(g, v, strict=True)], 1)
    return Dots(query[part], norm2[part], norm2.sum(0), np.array([x.shape[1] for x in g]), len(g[0]))


def scores(method, g, v, damping=0.1):
    """-(H^-1 v) . g_k from the method's combination."""
    combination = method.combine(dots(g, v), damping)
    total = np.zeros((N, v[0].shape[0]))
    for block, (x, y) in enumerate(zip(g, v, strict=True)):
        direction = combination.own[block] * y
        if combination.pairs is not None:
            direction = direction - combination.pairs[:, block].T @ x
        total -= x @ direction.T
    return total


def datainf_double_loop(g, v, damping=0.1):
    """Equation 5 of arXiv 2310.00902 with one Python loop over pairs inside another over blocks."""
    result = np.zeros((N, Q))
    for x, y in zip(g, v, strict=True):
        lam = damping * np.mean([np.mean(row**2) for row in x])
        for q in range(Q):
            hvp = np.zeros(x.shape[1])
            for row in x:
                hvp += (y[q] - (y[q] @ row) / (lam + row @ row) * row) / (N * lam)
            for k in range(N):
                result[k, q] -= hvp @ x[k]
    return result


def test_datainf_equals_the_double_loop(gradients):
    np.testing.assert_allclose(scores(datainf, *gradients), datainf_double_loop(*gradients), rtol=1e-10)


def test_datainf_inverts_exactly_where_there_is_one_pair():
    """With n = 1 the mean and the inverse need no swapping: (g g^T + lambda I)^-1 v."""
    rng = np.random.default_rng(1)
    g, v = [rng.standard_normal((1, 5))], [rng.standard_normal((1, 5))]
    combination = datainf.combine(dots(g, v), 0.1)
    lam = 0.1 * np.mean(g[0] ** 2)
    wanted = np.linalg.solve(g[0].T @ g[0] + lam * np.eye(5), v[0][0])
    found = combination.own[0] * v[0][0] - combination.pairs[0, 0, 0] * g[0][0]
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_coefficients_of_a_shard_are_those_of_the_whole(gradients):
    whole = datainf.combine(dots(*gradients), 0.1)
    part = datainf.combine(dots(*gradients, part=slice(5, 9)), 0.1)
    np.testing.assert_array_equal(part.own, whole.own)
    np.testing.assert_array_equal(part.pairs, whole.pairs[5:9])


def test_a_block_without_gradients_is_left_out_not_divided_by(gradients):
    g, v = gradients
    zeroed = [g[0], np.zeros_like(g[1]), g[2]]
    found = scores(datainf, zeroed, v)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, scores(datainf, [g[0], g[2]], [v[0], v[2]]), rtol=1e-10)


def test_identity_is_the_negative_dot_product(gradients):
    g, v = gradients
    wanted = -sum(x @ y.T for x, y in zip(g, v, strict=True))
    np.testing.assert_allclose(scores(identity, g, v), wanted)
