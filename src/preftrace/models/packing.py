"""Answers to one prompt in one row, [prompt | answer 1 | answer 2 | ...], so that the prompt is computed once.

An answer attends to the prompt and to itself, never to another answer, and its positions go on from the prompt's end:
every token sees what it would see alone. Only where a model can be given such a mask (`shares_prompts`); elsewhere,
and where nothing is shared, every answer has a row of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch

from preftrace import progress
from preftrace.models import attention
from preftrace.models.loading import LanguageModel
from preftrace.models.prompts import Encoded

ALONE = 0
"""Segment of the tokens that every answer sees: the prompt's."""
PADDING = -1
TOLERANCES = {"full": 1e-4, "low": 5e-2}
"""Largest difference of hidden states between the two ways that is still rounding, relative to their norm."""
KNOWN = "_preftrace_shares_prompts"
"""Attribute of a model that says whether it `shares_prompts`."""


class Packed(NamedTuple):
    """Given rows laid out in p packed rows of t tokens; m answer tokens in all, row after row, in order.

    Attributes:
        ids: `(p, t)` tokens.
        mask: `(p, t)` 1 where there is a token, or `(p, 1, t, t)` true where one token sees another.
        positions: `(p, t)` places in the text.
        home: `(n,)` the packed row of each given row.
        last: `(n,)` the place in it of the given row's last token.
        row: `(m,)` the given row of each answer token.
        before: `(m,)` the place, in the packed row, of the state that predicts the token.
        tokens: `(m,)` the answer tokens.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    home: torch.Tensor
    last: torch.Tensor
    row: torch.Tensor
    before: torch.Tensor
    tokens: torch.Tensor

    def to(self, device: torch.device) -> Packed:
        """The same on another device."""
        return Packed(*(tensor.to(device) for tensor in self))


def pack(rows: Sequence[Encoded], keys: Sequence[Hashable], pad_id: int) -> Packed:
    """Lay rows out; those with equal keys share a packed row.

    Args:
        rows: n prompts and answers.
        keys: rows with equal keys must have equal prompts.
        pad_id: token that fills packed rows, on the right.
    """
    places: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        places.setdefault(key, []).append(i)
    packs = list(places.values())
    heads = [len(rows[mine[0]].prompt_ids) for mine in packs]
    sizes = [head + sum(len(rows[i].answer_ids) for i in mine) for head, mine in zip(heads, packs, strict=True)]
    ids = torch.full((len(packs), max(sizes)), pad_id)
    positions, segments = torch.zeros_like(ids), torch.full_like(ids, PADDING)
    home, last = torch.zeros(len(rows), dtype=torch.long), torch.zeros(len(rows), dtype=torch.long)
    before: list[list[int]] = [[] for _ in rows]
    for p, (mine, head) in enumerate(zip(packs, heads, strict=True)):
        ids[p, :head] = torch.tensor(rows[mine[0]].prompt_ids)
        positions[p, :head], segments[p, :head] = torch.arange(head), ALONE
        start = head
        for segment, i in enumerate(mine, 1):
            stop = start + len(rows[i].answer_ids)
            ids[p, start:stop] = torch.tensor(rows[i].answer_ids)
            positions[p, start:stop], segments[p, start:stop] = torch.arange(head, head + stop - start), segment
            before[i] = [head - 1, *range(start, stop - 1)][: stop - start]
            home[i], last[i] = p, (stop if stop > start else head) - 1
            start = stop
    return Packed(
        ids=ids,
        mask=_mask(segments),
        positions=positions,
        home=home,
        last=last,
        row=torch.tensor([i for i, row in enumerate(rows) for _ in row.answer_ids], dtype=torch.long),
        before=torch.tensor([*itertools.chain(*before)], dtype=torch.long),
        tokens=torch.tensor([*itertools.chain(*(row.answer_ids for row in rows))], dtype=torch.long),
    )


def keys_of(
    lm: LanguageModel, rows: Sequence[Encoded], groups: Sequence[int] | None = None, ahead: int = 0
) -> list[Hashable]:
    """Keys for `pack`: rows of one group with one prompt share it, where the model can.

    A packed row is at most twice as long as the longest row: beyond that padding eats what sharing saves. Rows that are
    longer than a sliding window do not share: the mask of a packed row has no window.

    Args:
        lm: the model.
        rows: n prompts and answers.
        groups: rows of different groups never share; None: all rows are of one.
        ahead: tokens that come before all rows, which do not have them: they count in both lengths.
    """
    longest = ahead + max(len(row.prompt_ids) + len(row.answer_ids) for row in rows)
    if not shares_prompts(lm) or longest > _window(lm):
        return list(range(len(rows)))
    most = 2 * longest - ahead
    sizes: dict[Hashable, int] = {}
    keys: list[Hashable] = []
    for i, row in enumerate(rows):
        group, turn = 0 if groups is None else groups[i], 0
        while sizes.get((group, row.prompt_ids, turn), 0) + len(row.answer_ids) > most:
            turn += 1
        key = group, row.prompt_ids, turn
        sizes[key] = sizes.get(key, len(row.prompt_ids)) + len(row.answer_ids)
        keys.append(key)
    return keys


def _window(lm: LanguageModel) -> float:
    """How many tokens back the model's shortest-sighted layer sees."""
    config = lm.model.config.get_text_config()
    sizes = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min((size for size in sizes if size), default=math.inf)


def packed_length(rows: Sequence[Encoded]) -> int:
    """Tokens of rows that share one prompt."""
    return len(rows[0].prompt_ids) + sum(len(row.answer_ids) for row in rows)


def inputs(lm: LanguageModel, packed: Packed) -> dict[str, torch.Tensor]:
    """Arguments of a forward pass over packed rows."""
    plain = {"input_ids": packed.ids, "attention_mask": packed.mask}
    if packed.mask.ndim == 2:
        return plain
    if getattr(lm.model.config, "_attn_implementation", "sdpa") not in ("sdpa", attention.NAME):
        dtype = next(lm.model.parameters()).dtype
        zeros = torch.zeros(packed.mask.shape, dtype=dtype, device=packed.mask.device)
        plain["attention_mask"] = zeros.masked_fill(~packed.mask, torch.finfo(dtype).min)
    return plain | {"position_ids": packed.positions}


def backbone(lm: LanguageModel) -> Any:
    """The model without its output head, its adapter in place."""
    from peft import PeftModel

    whole = lm.model.get_base_model() if isinstance(lm.model, PeftModel) else lm.model
    return getattr(whole, whole.base_model_prefix)


def shares_prompts(lm: LanguageModel) -> bool:
    """Whether answers may share a prompt on this model: found out once, by doing it both ways on a few tokens."""
    return found_out(
        lm,
        KNOWN,
        sharing_error,
        "answers share their prompt; each is computed with a prompt of its own, which is slower "
        "(`preftrace doctor MODEL` says more)",
    )


def found_out(lm: LanguageModel, attribute: str, error: Callable[[LanguageModel], float], words: str) -> bool:
    """Whether a way to compute gives the plain way's numbers on a model: tried once, then kept on the model.

    Args:
        lm: the model.
        attribute: of the model, where the answer is kept.
        error: how far numbers are off, relative to the plain way's.
        words: where they are, and what is done instead: said once, where it does not.
    """
    known = getattr(lm.model, attribute, None)
    if known is None:
        known = error(lm) <= sharing_limit(lm)
        setattr(lm.model, attribute, known)
        if not known:
            progress.say(f"warning: {type(lm.model).__name__} gives other numbers where {words}")
    return bool(known)


def sharing_limit(lm: LanguageModel) -> float:
    """The largest `sharing_error` that is still rounding."""
    return TOLERANCES["low" if lm.precision in ("bfloat16", "autocast") else "full"]


def sharing_error(lm: LanguageModel) -> float:
    """How far hidden states are off where answers share their prompt: relative to the norm of those that do not.

    On a few random tokens. Infinite for a model that cannot be given such a mask.
    """
    vocabulary = lm.model.get_input_embeddings().weight.shape[0]
    tokens = torch.randint(vocabulary, (24,), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [Encoded(tuple(tokens[:9]), tuple(answer), False) for answer in (tokens[9:16], tokens[16:])]
    states = []
    try:
        for keys in ([0, 0], [0, 1]):
            packed = pack(rows, keys, lm.pad_id).to(lm.device)
            with torch.no_grad(), lm.autocast():
                found = backbone(lm)(**inputs(lm, packed), use_cache=False).last_hidden_state
            states.append(found[packed.home[packed.row], packed.before].float())
    except (TypeError, ValueError, RuntimeError, IndexError):
        return math.inf
    shared, alone = states
    return float((shared - alone).norm() / alone.norm())


def _mask(segments: torch.Tensor) -> torch.Tensor:
    """From the segment of every token `(p, t)`."""
    if int(segments.max()) <= 1:
        return (segments != PADDING).long()
    t = segments.shape[1]
    mine, other = segments[:, :, None], segments[:, None, :]
    seen = ((other == ALONE) | (other == mine)) & (other != PADDING) & torch.ones(t, t, dtype=torch.bool).tril()
    # A padding token sees itself, so that no row of the softmax is empty.
    return (seen | torch.eye(t, dtype=torch.bool))[:, None]
