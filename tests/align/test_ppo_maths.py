"""PPO's mathematics against worked examples."""

from __future__ import annotations

import math

import pytest
import torch

from preftrace.align import _ppo_maths as maths


def t(rows, **kwargs):
    return torch.tensor(rows, dtype=torch.float64, **kwargs)


MASK = torch.tensor([[True, True, True], [True, False, False]])


def test_advantages_by_hand():
    """gamma 0.9, lam 0.5, r = (0, 0, 1), V = (0.1, 0.2, 0.3).

    delta_3 = 1 - 0.3 = 0.7; delta_2 = 0.9 x 0.3 - 0.2 = 0.07; delta_1 = 0.9 x 0.2 - 0.1 = 0.08.
    A_3 = 0.7; A_2 = 0.07 + 0.45 x 0.7 = 0.385; A_1 = 0.08 + 0.45 x 0.385 = 0.25325. Returns add V.
    The second answer has one token: A = 2 - 0.5 = 1.5, R = 2; what stands in its padding does not count.
    """
    rewards, values = t([[0, 0, 1], [2, 9, 9]]), t([[0.1, 0.2, 0.3], [0.5, 7, 7]])
    found, returns = maths.advantages(rewards, values, MASK, 0.9, 0.5)
    assert found.flatten().tolist() == pytest.approx([0.25325, 0.385, 0.7, 1.5, 0, 0])
    assert returns.flatten().tolist() == pytest.approx([0.35325, 0.585, 1.0, 2.0, 0, 0])


def test_without_a_value_the_advantage_is_the_return():
    found, _ = maths.advantages(t([[1, 2, 3]]), t([[0, 0, 0]]), MASK[:1], 1.0, 1.0)
    assert found.tolist() == [[6, 5, 3]]


def test_token_rewards_by_hand():
    """-0.5 x KL everywhere, the score at the last token of each answer."""
    found = maths.token_rewards(t([10, 20]), t([[1, 2, 3], [4, 5, 6]]), 0.5, MASK)
    assert found.tolist() == [[-0.5, -1.0, 8.5], [18.0, 0, 0]]


def test_whitening_by_hand():
    """1, 2, 3 and 6: mean 3, variance 3.5."""
    found = maths.whiten(t([[1, 2, 3], [6, 99, 99]]), MASK)
    expected = [(x - 3) / math.sqrt(3.5) for x in (1, 2, 3, 6)]
    assert found[MASK].tolist() == pytest.approx(expected, rel=1e-6) and found[~MASK].tolist() == [0, 0]


def test_kl_forms_by_hand_and_on_average():
    """log pi = log 0.5, log pi_ref = log 0.25: k1 = log 2, k3 = 0.5 - 1 + log 2. Both average to KL under pi."""
    logps, reference = t([[math.log(0.5)]]), t([[math.log(0.25)]])
    assert maths.kl_terms(logps, reference, "k1").item() == pytest.approx(math.log(2))
    assert maths.kl_terms(logps, reference, "k3").item() == pytest.approx(math.log(2) - 0.5)
    pi, ref = t([0.7, 0.2, 0.1]), t([0.3, 0.3, 0.4])
    exact = float((pi * (pi / ref).log()).sum())
    for form in ("k1", "k3"):
        assert float((pi * maths.kl_terms(pi.log(), ref.log(), form)).sum()) == pytest.approx(exact)


def test_the_clipped_loss_by_hand():
    """Ratios 1.5, 0.5, 1 and 1.5 with advantages 1, 1, -1 and -1, clip 0.2.

    Taken is the smaller: 1.2 (clipped), 0.5, -1, -1.5. The loss is -(1.2 + 0.5 - 1 - 1.5) / 4.
    """
    logps = t([[1.5, 0.5, 1.0], [1.5, 9, 9]]).log()
    advantage = t([[1, 1, -1], [-1, 9, 9]])
    found = maths.policy_loss(logps, torch.zeros_like(logps), advantage, MASK, 0.2)
    assert found.loss.item() == pytest.approx(0.2)
    assert found.clipped.item() == pytest.approx(0.25) and found.ratio.item() == pytest.approx(4.5 / 4)


def test_a_clipped_token_has_no_gradient():
    logps = t([[1.5, 0.5]]).log().requires_grad_()
    maths.policy_loss(logps, torch.zeros(1, 2), t([[1, 1]]), torch.ones(1, 2, dtype=torch.bool), 0.2).loss.backward()
    assert logps.grad[0].tolist() == pytest.approx([0.0, -0.25])


def test_the_value_loss_by_hand():
    """V 1, old 0, R 2, clip 0.2: max((1 - 2)^2, (0.2 - 2)^2) / 2 = 1.62; without clipping 0.5."""
    one = torch.ones(1, 1, dtype=torch.bool)
    assert maths.value_loss(t([[1]]), t([[0]]), t([[2]]), one, 0.2).item() == pytest.approx(1.62)
    assert maths.value_loss(t([[1]]), t([[0]]), t([[2]]), one, math.inf).item() == pytest.approx(0.5)


def test_explained_variance():
    returns = t([[1, 2, 3], [6, 0, 0]])
    assert maths.explained_variance(returns, returns, MASK) == pytest.approx(1)
    assert maths.explained_variance(torch.zeros(2, 3), returns, MASK) == pytest.approx(0)
    assert maths.explained_variance(-returns, returns, MASK) == pytest.approx(-3)
    assert math.isnan(maths.explained_variance(returns, torch.ones(2, 3), MASK))


def test_the_controller_by_hand():
    """KL twice its target counts as 20% above; half of it as 20% below; 1.1 times as 10%."""
    found = [maths.next_coefficient(0.1, kl, 6.0) for kl in (12.0, 3.0, 6.6)]
    assert found == pytest.approx([0.102, 0.098, 0.101])


def test_one_step_without_clip_value_and_whitening_is_reinforce():
    """Gradient of the loss at pi = pi_old: -(1/tokens) sum A_t grad log pi_t, with A the return to come."""
    torch.manual_seed(0)
    theta = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    tokens = torch.tensor([[1, 4, 2], [3, 0, 0]])
    scores = t([2.0, -1.0])
    logps = theta.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    rewards = maths.token_rewards(scores, torch.zeros(2, 3, dtype=torch.float64), 0.0, MASK)
    found, _ = maths.advantages(rewards, torch.zeros(2, 3, dtype=torch.float64), MASK, 1.0, 1.0)
    maths.policy_loss(logps, logps.detach(), found, MASK, math.inf).loss.backward()
    expected = torch.zeros_like(theta)
    for i, length in enumerate((3, 1)):
        for step in range(length):
            slope = -theta[i, step].detach().softmax(-1)
            slope[tokens[i, step]] += 1
            expected[i, step] = -scores[i] * slope / 4
    assert torch.allclose(theta.grad, expected, atol=1e-12)
