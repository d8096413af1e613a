"""Answers token by token: each distinct prompt is computed once, and answers that have ended leave the batch.

The keys and values of the n prompts are expanded to the m answers that follow them; from then on every answer is a row
of its own. Only where a model can do that (`continues`); elsewhere `generate` computes a prompt for every answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from preftrace.models.loading import LanguageModel
from preftrace.models.packing import found_out

KNOWN = "_preftrace_continues"
"""Attribute of a model that says whether it `continues`."""
KEPT = 7 / 8
"""Rows that have ended are dropped when at most this share is still going on: dropping copies all keys and values."""


class Draw(Protocol):
    """Picks the next token of every row of the batch: the highest number of its row."""

    def numbers(self, logits: torch.Tensor) -> torch.Tensor:
        """`(b, v)`, from the logits, of the same shape."""
        ...

    def keep(self, places: Sequence[int]) -> None:
        """Only these rows of the batch, in this order, are left."""
        ...


def decode(
    lm: LanguageModel,
    rows: Sequence[Sequence[int]],
    owners: Sequence[int],
    draw: Draw,
    most: int,
    ended: Callable[[int, list[int]], bool],
) -> list[list[int]]:
    """Continue prompts, all in one batch.

    Args:
        lm: the model.
        rows: n prompts as tokens.
        owners: for each of m answers, the prompt that it continues.
        draw: picks the tokens; its rows are the answers, in order.
        most: most tokens of an answer.
        ended: whether answer i, with the tokens it has, is complete.

    Returns:
        m answers as tokens, each up to where it ended.
    """
    width = max(len(row) for row in rows)
    ids = torch.tensor([[lm.pad_id] * (width - len(row)) + list(row) for row in rows], device=lm.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * (len(row) + most) for row in rows], device=lm.device)
    cache = _cache(lm)
    places = (mask[:, :width].cumsum(-1) - 1).clamp(min=0)
    logits = _pass(lm, ids, mask[:, :width], places, cache)
    batch = list(range(len(owners)))
    logits, mask = _select(owners, lm, cache, logits, mask)
    answers: list[list[int]] = [[] for _ in owners]
    going = dict.fromkeys(batch, True)
    for step in range(width, width + most):
        tokens = draw.numbers(logits).argmax(-1)
        for i, token in zip(batch, tokens.tolist(), strict=True):
            if going[i]:
                answers[i].append(token)
                going[i] = not ended(i, answers[i])
        left = [place for place, i in enumerate(batch) if going[i]]
        if not left or step + 1 == width + most:
            break
        if len(left) <= KEPT * len(batch):
            tokens, mask = _select(left, lm, cache, tokens, mask)
            draw.keep(left)
            batch = [batch[place] for place in left]
        place = mask[:, :step].sum(-1, keepdim=True)
        logits = _pass(lm, tokens[:, None], mask[:, : step + 1], place, cache)
    return answers


def _cache(lm: LanguageModel) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=lm.model.config)


def _pass(lm: LanguageModel, ids: torch.Tensor, mask: torch.Tensor, places: torch.Tensor, cache: Any) -> torch.Tensor:
    """Logits `(b, v)` after the last token; the cache grows."""
    found: torch.Tensor = lm.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=places,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    return found[:, -1]


def _select(
    chosen: Sequence[int], lm: LanguageModel, cache: Any, first: torch.Tensor, second: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of the cache, in place, and of two tensors."""
    rows = torch.tensor(chosen, device=lm.device)
    cache.batch_select_indices(rows)
    return first[rows], second[rows]


def continues(lm: LanguageModel) -> bool:
    """Whether answers may be continued from shared prompts on this model: found out once, on a few tokens."""
    words = (
        "samples share their prompt's keys and values; every sample is drawn with a prompt of its own, which is slower"
    )
    return found_out(lm, KNOWN, continuing_error, words)


def continuing_error(lm: LanguageModel) -> float:
    """How far logits are off where answers share their prompt and leave the batch, relative to plain passes' norm.

    On a few random tokens. Infinite for a model that cannot be run so.
    """
    vocabulary = lm.model.get_input_embeddings().weight.shape[0]
    tokens = torch.randint(vocabulary, (12,), generator=torch.Generator().manual_seed(0)).tolist()
    rows, owners, most = [tokens[:3], tokens[3:]], [0, 0, 1], 3
    try:
        with torch.no_grad(), lm.autocast():
            seen = _Seen(len(owners))
            # The first answer ends at once, so that the others go on in a smaller batch.
            answers = decode(lm, rows, owners, seen, most, lambda i, answer: i == 0)
            off = norm = 0.0
            for i, answer in enumerate(answers):
                ids = torch.tensor([[*rows[owners[i]], *answer]], device=lm.device)
                wanted = lm.model(input_ids=ids, use_cache=False).logits[0, -len(answer) - 1 : -1].double()
                off += float((torch.stack(seen.logits[i]).double() - wanted).square().sum())
                norm += float(wanted.square().sum())
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError):
        return math.inf
    return math.sqrt(off / norm)


class _Seen:
    """Takes the likeliest token, and keeps the logits of every answer."""

    def __init__(self, count: int) -> None:
        self.batch = list(range(count))
        self.logits: list[list[torch.Tensor]] = [[] for _ in self.batch]

    def numbers(self, logits: torch.Tensor) -> torch.Tensor:
        for i, row in zip(self.batch, logits, strict=True):
            self.logits[i].append(row)
        return logits

    def keep(self, places: Sequence[int]) -> None:
        self.batch = [self.batch[place] for place in places]
