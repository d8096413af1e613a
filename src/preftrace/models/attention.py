"""Attention for gradients on a CPU: what no token may see is not computed, and heads share their keys without copies.

The library's kernel multiplies whole squares of queries and keys and hides the upper half. Here the queries are taken
in blocks, and a block meets only the keys up to its own end:

    P = softmax(s Q K^T + mask)    O = P V
    dV = P^T dO    dS = P * (dO V^T - rowsum(dO * O))    dQ = s dS K    dK = s dS^T Q

P is kept for the backward pass, which recomputes nothing.
"""

from __future__ import annotations

from typing import Any

import torch

NAME = "preftrace_blocks"
BLOCK = 96
"""Queries of a block."""
LONGEST = 1024
"""Tokens of a row beyond which P, quadratic in them, would be much to keep."""


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **named: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in the form that transformers calls.

    Args:
        module: the layer that asks.
        query: `(b, h, t, d)`.
        key: `(b, g, t, d)`; g divides h, and h / g heads after one another share a key.
        value: `(b, g, t, e)`.
        attention_mask: `(b, 1, t, t)`, true where one token sees another.
        scaling: s; None: d^-1/2.
        dropout: of P.
        named: what the library's function takes besides.

    Returns:
        `(b, t, h, e)`, and None in place of P.
    """
    if dropout or named.get("position_bias") is not None or not _fits(query, key, attention_mask):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        found, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **named
        )
        return found, None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output: torch.Tensor = Blocks.apply(query, key, value, attention_mask, scale)  # type: ignore[no-untyped-call]
    return output.transpose(1, 2).contiguous(), None


class Blocks(torch.autograd.Function):
    """`(b, h, t, e)` from query, key, value, mask and s, as in `attend`; no token sees a later one."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """O."""
        b, h, t, d = query.shape
        groups = key.shape[1]
        q = (query * scale).reshape(b * groups, h // groups, t, d)
        k, v = key.reshape(b * groups, t, d), value.reshape(b * groups, t, -1)
        output = q.new_empty((*q.shape[:3], v.shape[2]))
        hidden, kept = ~mask[:, None], []
        for start, stop in _blocks(t):
            scores = torch.bmm(_rows(q, start, stop), k[:, :stop].transpose(1, 2))
            of_heads = scores.view(b, groups, -1, stop - start, stop)
            of_heads.masked_fill_(hidden[..., start:stop, :stop], -torch.inf)
            kept.append(scores.softmax(-1))
            output[:, :, start:stop] = torch.bmm(kept[-1], v[:, :stop]).view(*output.shape[:2], stop - start, -1)
        ctx.save_for_backward(q, k, v, output, *kept)
        ctx.scale, ctx.batch = scale, b
        return output.view(b, h, t, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """dQ, dK, dV."""
        q, k, v, output, *kept = ctx.saved_tensors
        delta = gradients[0].reshape(output.shape)
        weight = (delta * output).sum(-1, keepdim=True)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for (start, stop), p in zip(_blocks(q.shape[2]), kept, strict=True):
            ours = _rows(delta, start, stop)
            dv[:, :stop].baddbmm_(p.transpose(1, 2), ours)
            ds = torch.bmm(ours, v[:, :stop].transpose(1, 2)).sub_(_rows(weight, start, stop)).mul_(p)
            dq[:, :, start:stop] = torch.bmm(ds, k[:, :stop]).view(*q.shape[:2], stop - start, -1)
            dk[:, :stop].baddbmm_(ds.transpose(1, 2), _rows(q, start, stop))
        dq *= ctx.scale
        dq, dk, dv = (d.reshape(ctx.batch, -1, *d.shape[-2:]) for d in (dq, dk, dv))
        return dq, dk, dv, None, None


def _fits(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None) -> bool:
    """Whether these can be computed in blocks: a square of tokens, none of which sees a later one."""
    return (
        mask is not None
        and mask.dtype == torch.bool
        and mask.shape == (query.shape[0], 1, query.shape[2], key.shape[2])
        and query.shape[2] == key.shape[2] <= LONGEST
        and query.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not bool(mask.triu(1).any())
    )


def _blocks(t: int) -> list[tuple[int, int]]:
    return [(start, min(t, start + BLOCK)) for start in range(0, t, BLOCK)]


def _rows(heads: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """`(n, heads x tokens, d)` of the tokens from start to stop, of heads `(n, heads, t, d)` that share a key."""
    return heads[:, :, start:stop].reshape(len(heads), -1, heads.shape[-1])


def register() -> None:
    """Make `attend` known to transformers under `NAME`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
