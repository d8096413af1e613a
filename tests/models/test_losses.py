"""The pair losses, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from preftrace.models.losses import dpo_loss, sft_loss


def test_sft_loss_is_the_mean_over_tokens():
    """log pi = -6 over 3 tokens and -1 over 4: losses 2 and 0.25."""
    found = sft_loss(torch.tensor([-6.0, -1.0]), torch.tensor([3, 4]))
    assert found.tolist() == [2.0, 0.25]


def test_dpo_loss_by_hand():
    """D = (-10 + 12) - (-20 + 17) = 2 + 3 = 5; beta D = 0.5; softplus(-0.5) = log(1 + e^-0.5) = 0.474077."""
    numbers = [torch.tensor([v]) for v in (-10.0, -20.0, -12.0, -17.0)]
    assert dpo_loss(*numbers, beta=0.1).item() == pytest.approx(math.log1p(math.exp(-0.5)), rel=1e-6)


def test_dpo_loss_at_the_reference_is_log_2():
    same = torch.tensor([-3.0]), torch.tensor([-4.0])
    assert dpo_loss(*same, *same, beta=0.5).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("gap", [1e4, -1e4])
def test_dpo_loss_is_finite_for_huge_margins(gap):
    zero = torch.zeros(1)
    chosen = torch.tensor([gap], requires_grad=True)
    loss = dpo_loss(chosen, zero, zero, zero, beta=1.0)
    loss.sum().backward()
    assert loss.item() == pytest.approx(max(-gap, 0.0))
    assert math.isfinite(chosen.grad.item())
