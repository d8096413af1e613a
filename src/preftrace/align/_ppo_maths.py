"""The mathematics of PPO for language models, as pure functions.

Letters: n answers, T answer tokens (padded on the right), `mask` `(n, T)` true where there is a token. Token t of an
answer is the action; the state before it is the prompt and the tokens before t. All sums and means are over tokens.

Sources: PPO, Schulman et al. 2017 (arXiv 1707.06347), equations 7 and 9; generalised advantage estimation, Schulman et
al. 2016 (arXiv 1506.02438), equation 16; KL in the reward and its controller, Ziegler et al. 2019 (arXiv 1909.08593),
section 2.2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class PolicyLoss(NamedTuple):
    """The clipped surrogate: its mean (minimised), the mean ratio pi / pi_old, and the share of tokens clipped."""

    loss: torch.Tensor
    ratio: torch.Tensor
    clipped: torch.Tensor


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens of `(n, T)`."""
    return (x * mask).sum() / mask.sum()


def whiten(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`(n, T)` shifted and scaled to mean 0 and variance 1 over tokens; 0 where there is no token."""
    mean = masked_mean(x, mask)
    variance = masked_mean((x - mean) ** 2, mask)
    return (x - mean) * torch.rsqrt(variance + 1e-8) * mask


def kl_terms(logps: torch.Tensor, reference: torch.Tensor, form: str) -> torch.Tensor:
    """Estimates of KL(pi || pi_ref) from tokens drawn from pi, in nats a token.

    Args:
        logps: `(n, T)` log pi of the drawn tokens.
        reference: `(n, T)` log pi_ref.
        form: `k1` log pi - log pi_ref, unbiased and of either sign; `k3` (pi_ref / pi - 1) + log pi - log pi_ref,
            unbiased and never negative (Schulman 2020, http://joschu.net/blog/kl-approx.html).
    """
    gap = logps - reference
    return gap if form == "k1" else torch.expm1(-gap) + gap


def token_rewards(scores: torch.Tensor, kl: torch.Tensor, coefficient: float, mask: torch.Tensor) -> torch.Tensor:
    """-coefficient x KL at every token, and the answer's score at its last one.

    Args:
        scores: `(n,)`.
        kl: `(n, T)` of `kl_terms`.
        coefficient: strength of the hold to the reference.
        mask: `(n, T)`.
    """
    last = mask.sum(1).long() - 1
    rewards = -coefficient * kl * mask
    return rewards.index_put((torch.arange(len(scores), device=scores.device), last), scores, accumulate=True)


def advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantage estimates, and the returns that values are trained towards (advantage + value).

    A_t = sum_l (gamma lam)^l delta_{t+l}, delta_t = r_t + gamma V_{t+1} - V_t; after the last token the value is 0.

    Args:
        rewards: `(n, T)`.
        values: `(n, T)` of the state before each token.
        mask: `(n, T)`.
        gamma: discount.
        lam: 0: one step; 1: the whole return minus the value.
    """
    values = values * mask
    found = torch.zeros_like(values)
    following = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        after = values[:, t + 1] if t + 1 < values.shape[1] else torch.zeros_like(following)
        delta = rewards[:, t] + gamma * after - values[:, t]
        following = (delta + gamma * lam * following) * mask[:, t]
        found[:, t] = following
    return found, (found + values) * mask


def policy_loss(
    logps: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor, mask: torch.Tensor, clip: float
) -> PolicyLoss:
    """Sum over tokens of -min(ratio A, clip(ratio, 1 - clip, 1 + clip) A), over the number of tokens (equation 7).

    Args:
        logps: `(n, T)` log pi now.
        old: `(n, T)` log pi when the answers were drawn.
        advantage: `(n, T)`.
        mask: `(n, T)`.
        clip: epsilon; infinity: no clipping.
    """
    ratio = torch.exp((logps - old) * mask)
    plain, clipped = ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage
    share = masked_mean((clipped < plain).float(), mask)
    return PolicyLoss(-masked_mean(torch.minimum(plain, clipped), mask), masked_mean(ratio, mask), share)


def value_loss(
    values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, clip: float
) -> torch.Tensor:
    """Half the mean over tokens of the larger of (V - R)^2 with V now and with V held within `clip` of the old one."""
    held = old + (values - old).clamp(-clip, clip)
    return 0.5 * masked_mean(torch.maximum((values - returns) ** 2, (held - returns) ** 2), mask)


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> float:
    """1 - Var(R - V) / Var(R) over tokens: 1 perfect, 0 as good as a constant, below 0 worse; NaN if R is constant."""
    error, target = (returns - values)[mask], returns[mask]
    total = target.var(unbiased=False)
    return float(1 - error.var(unbiased=False) / total) if total > 0 else float("nan")


def next_coefficient(coefficient: float, kl: float, target: float, gain: float = 0.1) -> float:
    """The KL coefficient after a step: raised where KL is above its target, lowered where below.

    coefficient x (1 + gain x clip(kl / target - 1, -0.2, 0.2)).
    """
    return coefficient * (1 + gain * min(max(kl / target - 1, -0.2), 0.2))
