"""Objectives of queries: from the rows' values to one number an example, to be differentiated. Pure functions.

A row's value is the log-probability of its answer, or its reward where pairs act through a reward model. The value of
example i depends on the rows of example i only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

Objective = Callable[[torch.Tensor], torch.Tensor]
"""From values `(N,)` to `(n,)`."""


def log_odds(groups: Sequence[int], weights: Sequence[float]) -> Objective:
    """Log sum_{good} p - log sum_{bad} p of each example; good options have a weight above 0."""

    def objective(values: torch.Tensor) -> torch.Tensor:
        group = torch.tensor(groups, device=values.device)
        good = torch.tensor(weights, device=values.device) > 0
        return torch.stack(
            [
                values[(group == i) & good].logsumexp(0) - values[(group == i) & ~good].logsumexp(0)
                for i in range(max(groups) + 1)
            ]
        )

    return objective


def weighted_sum(groups: Sequence[int], weights: Sequence[float]) -> Objective:
    """sum_j w_j value_j of each example."""

    def objective(values: torch.Tensor) -> torch.Tensor:
        weight = torch.tensor(weights, dtype=values.dtype, device=values.device)
        group = torch.tensor(groups, device=values.device)
        return torch.zeros(max(groups) + 1, dtype=values.dtype, device=values.device).index_add(
            0, group, weight * values
        )

    return objective


def pairwise(groups: Sequence[int], weights: Sequence[float]) -> Objective:
    """-w softplus(-D) of each example, D = value of its first row - value of its second; w is the first row's weight.

    The loss of preferring the first answer, as the study has it (arXiv 2404.18870, section 5), with the sign of trust.
    """
    assert list(groups) == [i // 2 for i in range(len(groups))], "every example has two rows, one after the other"

    def objective(values: torch.Tensor) -> torch.Tensor:
        weight = torch.tensor(weights, dtype=values.dtype, device=values.device)[::2]
        return -weight * F.softplus(values[1::2] - values[::2])

    return objective


OBJECTIVES = {
    "log-odds": log_odds,
    "score-function": weighted_sum,
    "covariance": weighted_sum,
    "reward-gap": weighted_sum,
    "margin": weighted_sum,
    "paper": pairwise,
}
"""Kind of a query -> its objective."""
