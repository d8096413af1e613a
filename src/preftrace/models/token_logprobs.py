"""Log-probabilities of given tokens from their logits, and their gradient, in few passes over the vocabulary.

A vocabulary is wide: autograd's own way (log-softmax, gather) keeps a second `(m, v)` and fills a third with zeros.
"""

from __future__ import annotations

from typing import Any

import torch


def token_logprobs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-softmax of the logits at the tokens, `(m,)`, at most 0. Differentiable once.

    Args:
        logits: `(m, v)`.
        tokens: `(m,)` ids in [0, v).
    """
    found: torch.Tensor = _TokenLogprobs.apply(logits, tokens)  # type: ignore[no-untyped-call]
    return found


class _TokenLogprobs(torch.autograd.Function):
    """d log p_t / d logit_v = [v = t] - p_v."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        total = logits.logsumexp(-1)
        ctx.save_for_backward(logits, tokens, total)
        return logits.gather(-1, tokens[:, None])[:, 0] - total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits, tokens, total = ctx.saved_tensors
        gradient = gradients[0][:, None]
        found = (logits - total[:, None]).exp_().mul_(-gradient)
        return found.scatter_add_(1, tokens[:, None], gradient), None
