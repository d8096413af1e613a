"""Pair losses: one number a pair, the ones that the stages minimise. Pure functions of answer log-probabilities."""

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
    margin = (chosen - ref_chosen) - (rejected - ref_rejected)
    return F.softplus(-beta * margin)
