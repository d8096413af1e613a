"""Projection and quantisation: what a store's rows are made with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from preftrace.attribute import quantise
from preftrace.attribute.projection import Projection

SHAPE = (40, 6)


@pytest.fixture
def rows():
    return np.random.default_rng(0).standard_normal((30, 240)).astype(np.float32)


def test_a_projection_of_rank_0_changes_nothing(rows):
    none = Projection(0, 0)
    assert none.shape(SHAPE) == SHAPE
    np.testing.assert_array_equal(none.apply("m", rows, SHAPE), rows)
    np.testing.assert_array_equal(none.lift("m", rows, SHAPE), rows)


def test_only_long_sides_are_projected(rows):
    both, one = Projection(4, 0), Projection(8, 0)
    assert both.shape(SHAPE) == (4, 4) and one.shape(SHAPE) == (8, 6)
    left, right = one.sides("m", SHAPE)
    assert left.shape == (40, 8) and right is None
    wanted = np.einsum("nab,ak->nkb", rows.reshape(-1, *SHAPE), left).reshape(30, -1)
    np.testing.assert_allclose(one.apply("m", rows, SHAPE), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rank", [0, 4, 8])
def test_lift_is_the_transpose(rows, rank):
    projection = Projection(rank, 1)
    vectors = np.random.default_rng(1).standard_normal((3, np.prod(projection.shape(SHAPE)))).astype(np.float32)
    projected = projection.apply("m", rows, SHAPE) @ vectors.T
    np.testing.assert_allclose(rows @ projection.lift("m", vectors, SHAPE).T, projected, rtol=1e-3, atol=1e-3)


def test_inner_products_are_kept_in_expectation(rows):
    """Mean over 400 seeds within 4 standard errors, for a pair of rows and for a norm."""
    x, y = rows[:1], rows[1:2] + 0.5 * rows[:1]
    found = []
    for seed in range(400):
        p = Projection(8, seed)
        px, py = p.apply("m", x, SHAPE)[0], p.apply("m", y, SHAPE)[0]
        found.append((px @ py, px @ px))
    mean, error = np.mean(found, 0), np.std(found, 0) / 20
    assert (np.abs(mean - [(x @ y.T).item(), (x @ x.T).item()]) < 4 * error).all()


def test_signs_hang_on_the_seed_the_matrix_and_the_side():
    one = Projection(2, 0).sides("m", (20, 20))
    again, other_seed, other_name = (
        Projection(2, 0).sides("m", (20, 20)),
        Projection(2, 1).sides("m", (20, 20)),
        Projection(2, 0).sides("n", (20, 20)),
    )
    np.testing.assert_array_equal(one[0], again[0])
    assert all((one[0] != other).any() for other in (one[1], other_seed[0], other_name[0]))


def test_bf16_rounds_as_torch_does():
    x = np.concatenate([np.random.default_rng(2).standard_normal(5000) * 10.0 ** np.arange(-20, 30).repeat(100), [0.0]])
    x = np.append(x, [np.inf, -np.inf, np.nan, 1.00390625, 1.01171875]).astype(np.float32)
    wanted = torch.from_numpy(x).bfloat16().float().numpy()
    np.testing.assert_array_equal(quantise.from_bf16(quantise.to_bf16(x)), wanted)


@pytest.mark.parametrize(("kind", "error"), [("float32", 0.0), ("bf16", 2.0**-8), ("int8", 1.02 / 254)])
def test_rows_come_back_within_half_a_step(rows, kind, error):
    """For int8 a step is a 127th of the row's largest number, for bfloat16 of the number's own size."""
    rows = rows * np.float32(10.0) ** np.linspace(-12, 3, len(rows), dtype=np.float32)[:, None]
    back = quantise.decode(quantise.encode(rows, kind))
    scale = np.abs(rows).max(1, keepdims=True) if kind == "int8" else np.abs(rows)
    assert back.dtype == np.float32 and (np.abs(back - rows) <= error * scale).all()


@pytest.mark.parametrize("kind", ["float32", "bf16", "int8"])
def test_rows_that_are_zero_or_not_finite_stay_so(rows, kind):
    rows[0], rows[1, 3], rows[2, 4] = 0.0, np.nan, np.inf
    back = quantise.decode(quantise.encode(rows, kind))
    assert not back[0].any()
    assert not np.isfinite(back[1]).all() and not np.isfinite(back[2]).all() and np.isfinite(back[3:]).all()
