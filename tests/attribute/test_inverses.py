"""Methods on the rows of one block: against dense solves and against the coefficients of the streaming passes."""

from __future__ import annotations

import numpy as np
import pytest

from preftrace.attribute.methods import datainf, ekfac, exact, identity
from preftrace.attribute.methods._base import Block, Dots

A, B, Q = 3, 7, 2


def block(n: int, factors=None, seed: int = 0, zero: bool = False) -> Block:
    """Gradients with a decaying spectrum, so that the inverse is far from the identity."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, A * B)) @ np.diag(1.0 / np.arange(1, A * B + 1)) * (0.0 if zero else 1.0)
    return Block(rows, rng.standard_normal((Q, A * B)), (rows**2).sum(1), A * B, (A, B), factors)


@pytest.mark.parametrize("n", [5, 21, 60])
def test_exact_equals_a_dense_solve(n):
    """Woodbury below D = 21 pairs, Cholesky from there on; lambda by hand."""
    given = block(n)
    lam = 0.1 * np.mean((given.rows**2).sum(1)) / min(n, A * B)
    dense = np.linalg.solve(given.rows.T @ given.rows / n + lam * np.eye(A * B), given.query.T).T
    found = exact.invert(given, 0.1)
    np.testing.assert_allclose(found.vectors, dense, rtol=1e-9)
    assert found.damping == pytest.approx(lam)


def test_exact_keeps_its_precision_on_float32_rows():
    given = block(9)
    narrow = given._replace(rows=given.rows.astype(np.float32), query=given.query.astype(np.float32))
    found, wanted = exact.invert(narrow, 0.1).vectors, exact.invert(given, 0.1).vectors
    assert found.dtype == np.float32
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) <= 1e-5


def test_ekfac_is_exact_where_gradients_are_made_of_two_independent_sides():
    """G = u_i w_j^T, each once: H is diagonal in the eigenbases of u and w, and so is its inverse."""
    rng = np.random.default_rng(3)
    u = np.linalg.qr(rng.standard_normal((A, A)))[0] * np.array([1.0, 2.0, 3.0])
    w = np.linalg.qr(rng.standard_normal((B, B)))[0] * np.arange(1.0, B + 1)
    rows = np.stack([np.outer(u[:, i], w[:, j]).ravel() for i in range(A) for j in range(B)])
    given = Block(rows, rng.standard_normal((Q, A * B)), (rows**2).sum(1), A * B, (A, B), (u @ u.T, w @ w.T))
    found = ekfac.invert(given, 0.1)
    h = rows.T @ rows / len(rows)
    assert found.damping == pytest.approx(0.1 * np.trace(h) / (A * B))
    dense = np.linalg.solve(h + found.damping * np.eye(A * B), given.query.T).T
    np.testing.assert_allclose(found.vectors, dense, rtol=1e-8)
    without = ekfac.invert(given._replace(factors=None), 0.1)
    np.testing.assert_allclose(without.vectors, dense, rtol=1e-8)


def test_ekfac_is_nearer_to_the_exact_inverse_than_no_inverse():
    """On gradients x y^T of correlated sides, by the cosine of the directions."""
    rng = np.random.default_rng(4)
    left = rng.standard_normal((4000, A)) @ np.diag([3.0, 1.0, 0.2])
    right = rng.standard_normal((4000, B)) @ rng.standard_normal((B, B))
    rows = np.einsum("na,nb->nab", left, right).reshape(4000, -1)
    factors = left.T @ left, right.T @ right
    given = Block(rows, rng.standard_normal((Q, A * B)), (rows**2).sum(1), A * B, (A, B), factors)
    wanted = exact.invert(given, 0.1).vectors

    def cosine(x):
        return (x * wanted).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(wanted, axis=1)

    assert (cosine(ekfac.invert(given, 0.1).vectors) > np.maximum(0.9, cosine(given.query) + 0.1)).all()


@pytest.mark.parametrize("method", [identity, datainf])
def test_a_block_and_the_streaming_passes_give_the_same(method):
    given = block(13)
    dots = Dots(
        (given.rows @ given.query.T)[:, None],
        given.norm2[:, None],
        np.array([given.norm2.sum()]),
        np.array([given.size]),
        13,
    )
    combination = method.combine(dots, 0.1)
    wanted = combination.own[0] * given.query
    if combination.pairs is not None:
        wanted = wanted - combination.pairs[:, 0].T @ given.rows
    found = method.invert(given, 0.1)
    np.testing.assert_allclose(found.vectors, wanted, rtol=1e-9)
    assert (found.damping is None) == (combination.damping is None)


@pytest.mark.parametrize("method", [datainf, exact, ekfac])
def test_a_block_without_gradients_is_left_out_not_divided_by(method):
    found = method.invert(block(6, zero=True), 0.1)
    assert found.damping == 0 and not found.vectors.any() and found.vectors.shape == (Q, A * B)
