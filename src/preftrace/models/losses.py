"""Pair losses: one number a pair, what the stages minimise and influence differentiates. Pure functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def sft_loss(chosen: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Mean over completion tokens of -log pi(y_t | x, y_<t) on the chosen answer.

    Args:
        chosen: `(n,)` log pi(chosen | prompt), summed over tokens.
        tokens: `(n,)` completion tokens, the end token included.

    Returns:
        `(n,)`, at least 0, in nats a token.
    """
    return -chosen / tokens


def dpo_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, ref_chosen: torch.Tensor, ref_rejected: torch.Tensor, beta: float
) -> torch.Tensor:
    """softplus(-beta D), D = [log pi - log pi_ref](chosen) - [log pi - log pi_ref](rejected).

    Rafailov et al. 2023 (arXiv 2305.18290), equation 7.

    Args:
        chosen: `(n,)` log pi(chosen | prompt), summed over completion tokens.
        rejected: `(n,)` log pi(rejected | prompt).
        ref_chosen: `(n,)` the same under the reference policy.
        ref_rejected: `(n,)` the same under the reference policy.
        beta: strength of the pull towards the reference.

    Returns:
        `(n,)`, at least 0, in nats.
    """
    return F.softplus(beta * (rejected - ref_rejected) - beta * (chosen - ref_chosen))


def reward_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, margin: torch.Tensor, smoothing: float = 0.0, centring: float = 0.0
) -> torch.Tensor:
    """(1 - e) softplus(-D) + e softplus(D) + c (r(chosen) + r(rejected))^2, D = r(chosen) - r(rejected) - margin.

    Bradley-Terry as in Ouyang et al. 2022 (arXiv 2203.02155), equation 1; the margin is Touvron et al.'s (2023, arXiv
    2307.09288), equation 2; centring is Eisenstein et al.'s (2023, arXiv 2312.09244). Stable for gaps of any size.

    Args:
        chosen: `(n,)` reward of the preferred answer.
        rejected: `(n,)` reward of the other one.
        margin: `(n,)` by how much the first should be above the second.
        smoothing: e in [0, 0.5), the share of labels that are taken to be wrong.
        centring: c, at least 0.

    Returns:
        `(n,)`, at least 0, in nats (the centring term aside).
    """
    gap = chosen - rejected - margin
    ranked = (1 - smoothing) * F.softplus(-gap) + smoothing * F.softplus(gap)
    return ranked + centring * (chosen + rejected) ** 2
