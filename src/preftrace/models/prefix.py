"""What many prompts start with, computed once: its keys and values are put before every batch of rows.

For items that all begin with the same solved examples or instructions. Rows are packed as ever (`packing.py`), without
their beginning. Only where a model can be run so (`opens`); elsewhere every row is computed as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from preftrace.models.loading import LanguageModel
from preftrace.models.packing import backbone, found_out, inputs, pack, shares_prompts
from preftrace.models.prompts import Encoded

KNOWN = "_preftrace_opens"
"""Attribute of a model that says whether it `opens`."""


class Prefix(NamedTuple):
    """P tokens, and of each layer their keys and values `(1, h, P, d)`."""

    ids: tuple[int, ...]
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    def starts(self, row: Encoded) -> bool:
        """Whether the row's prompt starts with it and goes on."""
        return len(row.prompt_ids) > len(self.ids) and row.prompt_ids[: len(self.ids)] == self.ids

    def rest(self, row: Encoded) -> Encoded:
        """The row without it."""
        return row._replace(prompt_ids=row.prompt_ids[len(self.ids) :])


def compute_prefix(lm: LanguageModel, ids: Sequence[int]) -> Prefix | None:
    """Compute a beginning; None where the model cannot go on from one, which is said once."""
    return _computed(lm, ids) if opens(lm) else None


def after(prefix: Prefix, given: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Arguments of a pass over p packed rows of t tokens that come after P tokens they do not have.

    Args:
        prefix: the P tokens, which every token sees.
        given: as from `packing.inputs`.
    """
    from transformers import DynamicCache

    rows, length = len(given["input_ids"]), len(prefix.ids)
    cache, mask = DynamicCache(), given["attention_mask"]
    for layer, pair in enumerate(prefix.layers):
        keys, values = (tensor.expand(rows, -1, -1, -1) for tensor in pair)
        cache.update(keys, values, layer)
    shape = (*mask.shape[:-1], length)
    # A mask of numbers is added to the scores, where 0 is what is seen.
    seen = mask.new_zeros(shape) if mask.is_floating_point() else mask.new_ones(shape)
    found = {**given, "attention_mask": torch.cat([seen, mask], -1), "past_key_values": cache, "use_cache": True}
    if "position_ids" in given:
        found["position_ids"] = given["position_ids"] + length
    return found


def opens(lm: LanguageModel) -> bool:
    """Whether rows may go on from keys and values on this model: found out once, on a few tokens."""
    words = "prompts go on from keys and values; what they all start with is computed for each, which is slower"
    return found_out(lm, KNOWN, opening_error, words)


def opening_error(lm: LanguageModel) -> float:
    """How far hidden states are off where rows go on from a prefix: relative to the norm of those that do not.

    On a few random tokens. Infinite for a model that cannot be run so.
    """
    vocabulary = lm.model.get_input_embeddings().weight.shape[0]
    tokens = tuple(torch.randint(vocabulary, (24,), generator=torch.Generator().manual_seed(0)).tolist())
    whole = [Encoded(tokens[:9], answer, False) for answer in (tokens[9:16], tokens[16:])]
    try:
        with torch.no_grad(), lm.autocast():
            start = _computed(lm, tokens[:6])
            wanted = _states(lm, whole, [0, 1], None)
            found = _states(lm, [start.rest(row) for row in whole], [0, 0] if shares_prompts(lm) else [0, 1], start)
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError):
        return math.inf
    return float((found - wanted).norm() / wanted.norm())


def _states(lm: LanguageModel, rows: Sequence[Encoded], keys: Sequence[int], start: Prefix | None) -> torch.Tensor:
    packed = pack(rows, keys, lm.pad_id).to(lm.device)
    given = inputs(lm, packed)
    found = backbone(lm)(**(after(start, given) if start else {**given, "use_cache": False})).last_hidden_state
    states: torch.Tensor = found[packed.home[packed.row], packed.before].double()
    return states


def _computed(lm: LanguageModel, ids: Sequence[int]) -> Prefix:
    from transformers import DynamicCache

    cache = DynamicCache()
    with torch.no_grad(), lm.autocast():
        backbone(lm)(input_ids=torch.tensor([list(ids)], device=lm.device), past_key_values=cache, use_cache=True)
    return Prefix(tuple(ids), tuple((layer.keys, layer.values) for layer in cache.layers))
