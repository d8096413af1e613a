"""Log-probabilities of given answers: batched, sorted by length, logits only where an answer token is predicted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from preftrace.models.loading import LanguageModel
from preftrace.models.packing import Packed, inputs, keys_of, pack, packed_length
from preftrace.models.prefix import Prefix, after
from preftrace.models.prompts import Encoded

BATCH_COST = 32
"""What one more pass costs beside its tokens, in tokens."""


def answer_logprobs(
    lm: LanguageModel,
    rows: Sequence[Encoded],
    temperature: float = 1.0,
    packed: Packed | None = None,
    start: Prefix | None = None,
) -> torch.Tensor:
    """Sum over answer tokens of log pi(token | before), one forward pass for all rows. Differentiable.

    Args:
        lm: the model.
        rows: n prompts and answers.
        temperature: the logits are divided by it, as when sampling.
        packed: how the rows are laid out; None: rows with one prompt share it.
        start: what comes before all rows, which do not have it.

    Returns:
        `(n,)`, at most 0, in float32 (float64 for a float64 model).
    """
    found = answer_states(lm, rows, packed, start)
    logits = found.logits if temperature == 1 else found.logits / temperature
    losses = F.cross_entropy(logits, found.tokens, reduction="none")
    return torch.zeros(len(rows), dtype=losses.dtype, device=losses.device).index_add(0, found.row, -losses)


class AnswerStates(NamedTuple):
    """All answer tokens of a batch, flattened: m of them, row after row, in order.

    Attributes:
        row: `(m,)` the row that a token belongs to.
        tokens: `(m,)` its id.
        logits: `(m, v)` of the position that predicts it, in float32 at least.
        hidden: `(m, d)` what the output head was given there.
    """

    row: torch.Tensor
    tokens: torch.Tensor
    logits: torch.Tensor
    hidden: torch.Tensor


def answer_states(
    lm: LanguageModel, rows: Sequence[Encoded], packed: Packed | None = None, start: Prefix | None = None
) -> AnswerStates:
    """One forward pass; logits exist only where an answer token is predicted. Differentiable."""
    packed = (packed or pack(rows, keys_of(lm, rows, ahead=_length(start)), lm.pad_id)).to(lm.device)
    logits, hidden = _logits_at(lm, packed, start)
    # Flattened, for the loss: with the classes in dimension 1 the CPU kernel is several times slower and less exact.
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return AnswerStates(packed.row, packed.tokens, wide, hidden)


def completion_logprobs(
    lm: LanguageModel,
    rows: Sequence[Encoded],
    *,
    temperature: float = 1.0,
    batch_tokens: int = 512,
    start: Prefix | None = None,
) -> np.ndarray:
    """Sum over answer tokens of log pi, for any number of rows, without gradients.

    Args:
        lm: the model.
        rows: n prompts and answers.
        temperature: the logits are divided by it.
        batch_tokens: padded tokens in one forward pass, at most (a longer row goes alone), `start` not counted.
        start: what prompts may start with; those that do are computed from there on.

    Returns:
        `(n,)` float64, in the order of `rows`.
    """
    result = np.full(len(rows), np.nan)
    opened = [start is not None and start.starts(row) for row in rows]
    for prefix in (start, None) if start else (None,):
        mine = [i for i, starts in enumerate(opened) if starts is (prefix is not None)]
        ours = [prefix.rest(rows[i]) if prefix else rows[i] for i in mine]
        for batch in row_batches(lm, ours, batch_tokens, _length(prefix)):
            with torch.inference_mode(), lm.autocast():
                values = answer_logprobs(lm, [ours[i] for i in batch], temperature, start=prefix)
            result[[mine[i] for i in batch]] = values.double().cpu().numpy()
    return result


def length_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of like length, longest first: of all ways to cut them, the one that costs least.

    A batch costs its padded size and `BATCH_COST`.

    Args:
        lengths: tokens of each row.
        batch_tokens: padded size of a batch, at most (a longer row goes alone).
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    cost, start = [0.0] + [math.inf] * len(order), [0] * (len(order) + 1)
    for first, i in enumerate(order):
        for rows in range(1, max(1, min(batch_tokens // max(lengths[i], 1), len(order) - first)) + 1):
            found = cost[first] + rows * lengths[i] + BATCH_COST
            if found < cost[first + rows]:
                cost[first + rows], start[first + rows] = found, first
    cuts = [len(order)]
    while cuts[-1]:
        cuts.append(start[cuts[-1]])
    for first, stop in itertools.pairwise(reversed(cuts)):
        yield order[first:stop]


def row_batches(lm: LanguageModel, rows: Sequence[Encoded], batch_tokens: int, ahead: int = 0) -> Iterator[list[int]]:
    """Indices of rows in batches of at most `batch_tokens` padded; rows that share a prompt stay together.

    `ahead` is the number of tokens that come before all rows, which do not have them.
    """
    units: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys_of(lm, rows, ahead=ahead) if rows else ()):
        units.setdefault(key, []).append(i)
    together = list(units.values())
    lengths = [packed_length([rows[i] for i in unit]) for unit in together]
    for batch in length_batches(lengths, batch_tokens):
        yield [i for unit in batch for i in together[unit]]


def _length(start: Prefix | None) -> int:
    return len(start.ids) if start else 0


def _logits_at(lm: LanguageModel, packed: Packed, start: Prefix | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits `(m, v)` and hidden states `(m, d)` where answer tokens are predicted: the head never sees other places.

    Whatever a model does to its logits after the head (scaling, capping) is elementwise, so it holds for these too.
    """
    seen: list[torch.Tensor] = []

    def gather(_module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        seen.append(given[0][packed.home[packed.row], packed.before])
        return (seen[0].unsqueeze(0),)

    given = inputs(lm, packed)
    handle = lm.model.get_output_embeddings().register_forward_pre_hook(gather)
    try:
        logits: torch.Tensor = lm.model(**(after(start, given) if start else {**given, "use_cache": False})).logits
    finally:
        handle.remove()
    return logits[0], seen[0]
