"""Queries: the log-odds and the score function, in the trust direction."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from preftrace.attribute.objectives import log_odds, weighted_sum
from preftrace.attribute.queries import leave_one_out


def test_leave_one_out_weights_by_hand():
    """Item a: trusts 1 and 0, so the other sample is the baseline: (1 - 0) / 2 and (0 - 1) / 2.

    Item b has one sample, 0.5; the baseline is the mean of the other two samples of the vertical, 0.5: weight 0.
    """
    assert leave_one_out(["a", "a", "b"], [1.0, 0.0, 0.5]) == [0.5, -0.5, 0.0]


def test_leave_one_out_without_any_difference_has_no_direction():
    assert leave_one_out(["a", "a", "b"], [1.0, 1.0, 1.0]) == [0.0, 0.0, 0.0]
    assert leave_one_out(["a"], [0.3]) == [0.0]


def test_score_function_is_unbiased_for_the_gradient_of_expected_trust():
    """Three answers with trusts t and p = softmax(theta): d E[t] / d theta_i = p_i (t_i - E[t]).

    The mean of the estimator over every possible pair of samples, weighted by its probability, is that gradient.
    """
    theta = torch.tensor([0.3, -0.5, 1.1], dtype=torch.float64)
    trust = [0.9, 0.1, 0.4]
    p = theta.softmax(0)
    exact = p * (torch.tensor(trust, dtype=torch.float64) - (p * torch.tensor(trust, dtype=torch.float64)).sum())
    mean = torch.zeros(3, dtype=torch.float64)
    for first in range(3):
        for second in range(3):
            weights = leave_one_out(["x", "x"], [trust[first], trust[second]])
            logits = theta.clone().requires_grad_(True)
            drawn = logits.log_softmax(0)[[first, second]]
            (gradient,) = torch.autograd.grad(weighted_sum([0, 0], weights)(drawn).sum(), logits)
            mean += p[first] * p[second] * gradient
    torch.testing.assert_close(mean, exact)


def test_log_odds_by_hand():
    """Example 0: good 0.5 and 0.25, bad 0.25: log(0.75 / 0.25). Example 1: good 0.1, bad 0.9."""
    probabilities = torch.tensor([0.5, 0.25, 0.25, 0.1, 0.9], dtype=torch.float64)
    found = log_odds([0, 0, 0, 1, 1], [1, 1, -1, 1, -1])(probabilities.log())
    assert found.tolist() == pytest.approx([math.log(3), math.log(1 / 9)])


def test_log_odds_of_very_unlikely_options_is_finite():
    found = log_odds([0, 0], [1, -1])(torch.tensor([-900.0, -1200.0]))
    assert found.item() == pytest.approx(300.0)


def test_weighted_sum_adds_within_examples():
    found = weighted_sum([0, 1, 1], [2.0, -1.0, 0.5])(torch.tensor([-1.0, -2.0, -4.0]))
    np.testing.assert_allclose(found.numpy(), [-2.0, 0.0])
