"""Queries through a reward model against the exact derivative on a tabular policy, and margins by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from preftrace.attribute.objectives import pairwise, weighted_sum
from preftrace.attribute.queries import covariance_weights, gap_weights

PROMPTS, ANSWERS, BETA = 3, 5, 0.4


@pytest.fixture
def world():
    """A reference policy, features of every answer (rewards are features . phi), and every answer's trust."""
    generator = torch.Generator().manual_seed(5)
    reference = torch.randn(PROMPTS, ANSWERS, generator=generator, dtype=torch.float64).log_softmax(-1)
    features = torch.randn(PROMPTS, ANSWERS, 4, generator=generator, dtype=torch.float64)
    trust = torch.rand(PROMPTS, ANSWERS, generator=generator, dtype=torch.float64)
    phi = torch.randn(4, generator=generator, dtype=torch.float64) * 0.5
    return reference, features, trust, phi


def optimum(reference, features, phi):
    """log pi of the policy that maximises E[r] - beta KL(pi, pi_ref)."""
    return (reference + features @ phi / BETA).log_softmax(-1)


def exact(world, function):
    """Gradient in phi of the mean over prompts of `function` of the optimal policy's log-probabilities."""
    reference, features, trust, phi = world
    phi = phi.clone().requires_grad_(True)
    value = torch.stack([function(logp, t) for logp, t in zip(optimum(reference, features, phi), trust, strict=True)])
    return torch.autograd.grad(value.mean(), phi)[0]


def queried(features, phi, groups, answers, weights):
    """Gradient of the query's objective: rows are (prompt, answer), values their rewards."""
    phi = phi.clone().requires_grad_(True)
    rewards = (features @ phi)[groups, answers]
    return torch.autograd.grad(weighted_sum(list(groups), [w / BETA for w in weights])(rewards).sum(), phi)[0]


def test_covariance_query_is_the_derivative_of_expected_trust_for_many_samples(world):
    """100,000 systematic samples a prompt: relative error at most 1e-3."""
    reference, features, trust, phi = world
    policy = optimum(reference, features, phi).exp()
    rng, groups, answers = np.random.default_rng(0), [], []
    for prompt in range(PROMPTS):
        points = (np.arange(100_000) + rng.random()) / 100_000
        drawn = np.searchsorted(np.cumsum(policy[prompt].numpy()), points).clip(max=ANSWERS - 1)
        groups += [prompt] * len(drawn)
        answers += drawn.tolist()
    weights = covariance_by_prompt(trust, groups, answers)
    found = queried(features, phi, groups, answers, weights) / PROMPTS
    wanted = exact(world, lambda logp, t: (logp.exp() * t).sum())
    assert (found - wanted).norm() / wanted.norm() <= 1e-3


def covariance_by_prompt(trust, groups, answers):
    """Prompt by prompt, as the items of an evaluation are."""
    weights = []
    for prompt in dict.fromkeys(groups):
        mine = [a for g, a in zip(groups, answers, strict=True) if g == prompt]
        weights += covariance_weights([str(prompt)] * len(mine), trust[prompt, mine].tolist())
    return weights


def test_covariance_query_is_unbiased_with_two_samples(world):
    """The mean over all pairs of answers, weighted by their probability, is the exact derivative."""
    reference, features, trust, phi = world
    policy = optimum(reference, features, phi).exp()
    mean = torch.zeros(4, dtype=torch.float64)
    for prompt in range(PROMPTS):
        for first in range(ANSWERS):
            for second in range(ANSWERS):
                weights = covariance_weights(["x", "x"], trust[prompt, [first, second]].tolist())
                one = queried(features[prompt : prompt + 1], phi, [0, 0], [first, second], weights)
                mean += policy[prompt, first] * policy[prompt, second] * one / PROMPTS
    torch.testing.assert_close(mean, exact(world, lambda logp, t: (logp.exp() * t).sum()), rtol=1e-10, atol=0)


def test_reward_gap_is_the_derivative_of_the_log_odds(world):
    """Answers 0 and 3 are the good ones."""
    reference, features, _, phi = world
    good = [a in (0, 3) for a in range(ANSWERS)]
    side = torch.tensor(good)
    logps = optimum(reference, features, phi)
    weights = [w for prompt in range(PROMPTS) for w in gap_weights(logps[prompt].tolist(), good)]
    groups = [prompt for prompt in range(PROMPTS) for _ in good]
    found = queried(features, phi, groups, [*range(ANSWERS)] * PROMPTS, weights) / PROMPTS
    wanted = exact(world, lambda logp, _: logp[side].logsumexp(0) - logp[~side].logsumexp(0))
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)


def test_covariance_weights_by_hand():
    """Trusts 1, 0, 0.5: minus the mean 0.5, over 2. An only sample says nothing."""
    assert covariance_weights(["a", "a", "b", "a"], [1.0, 0.0, 0.9, 0.5]) == [0.25, -0.25, 0.0, 0.0]


def test_gap_weights_by_hand():
    """Good options 0.3 and 0.1: 3/4 and 1/4; the bad one alone: -1. Very small probabilities do not vanish."""
    found = gap_weights([math.log(0.3), math.log(0.1), math.log(0.2)], [True, True, False])
    assert found == pytest.approx([0.75, 0.25, -1.0])
    assert gap_weights([-5000.0, -5000.0, -9000.0], [True, True, False]) == pytest.approx([0.5, 0.5, -1.0])


def test_pairwise_by_hand():
    """D = 2 with w = 0.5: -0.5 softplus(-2) = -0.0634640; D = -1 with w = -1: softplus(1) = 1.3132617."""
    found = pairwise([0, 0, 1, 1], [0.5, -0.5, -1.0, 1.0])(torch.tensor([3.0, 1.0, 0.0, 1.0]))
    assert found.tolist() == pytest.approx([-0.0634640, 1.3132617], abs=1e-6)


def test_pairwise_rises_where_the_better_answer_becomes_likelier():
    values = torch.tensor([0.0, 0.0, 0.0, 0.0], requires_grad=True)
    pairwise([0, 0, 1, 1], [0.5, -0.5, -1.0, 1.0])(values).sum().backward()
    assert values.grad.tolist() == [0.25, -0.25, -0.5, 0.5]
