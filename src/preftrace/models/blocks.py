"""A model's attention computed in blocks while gradients are taken, where that gives the library's numbers.

transformers calls `attention.attend` by the name of the attention in a model's settings. Some models (Falcon, Gemma 4)
look at that name themselves and make other masks, or attend in another way, where they do not know it: so it is tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from preftrace.models import attention
from preftrace.models.loading import LanguageModel
from preftrace.models.packing import backbone, found_out, inputs, pack, shares_prompts
from preftrace.models.prompts import Encoded

KNOWN = "_preftrace_attends_in_blocks"
"""Attribute of a model that says whether it `attends_in_blocks`."""


@contextmanager
def block_attention(lm: LanguageModel) -> Iterator[None]:
    """Inside, the model's attention is computed in blocks where that is faster: a CPU, float32 or float64.

    Elsewhere, and for masks of another kind than a language model's, the library computes it as ever.

    Args:
        lm: the model; nothing happens unless its attention is `sdpa` and it `attends_in_blocks`.
    """
    config = lm.model.config
    sdpa = lm.device.type == "cpu" and getattr(config, "_attn_implementation", None) == "sdpa"
    if not sdpa or not attends_in_blocks(lm):
        yield
        return
    with _named(config):
        yield


def attends_in_blocks(lm: LanguageModel) -> bool:
    """Whether a model whose attention is `sdpa` gives the same numbers in blocks: found out once, on a few tokens."""
    words = "its attention is computed in blocks for gradients; the library's own is used, which is slower"
    return found_out(lm, KNOWN, blocks_error, words)


def blocks_error(lm: LanguageModel) -> float:
    """How far hidden states are off in blocks, relative to the norm of the library's: padded rows, and shared prompts.

    On a few random tokens. Infinite for a model that cannot be run so.
    """
    vocabulary = lm.model.get_input_embeddings().weight.shape[0]
    tokens = torch.randint(vocabulary, (24,), generator=torch.Generator().manual_seed(0)).tolist()
    texts = (tokens[:9], tokens[9:16]), (tokens[:9], tokens[16:]), (tokens[:3], tokens[3:6])
    rows = [Encoded(tuple(prompt), tuple(answer), False) for prompt, answer in texts]
    ways = [[0, 1, 2], [0, 0, 1]] if shares_prompts(lm) else [[0, 1, 2]]
    wanted = _states(lm, rows, ways)
    try:
        with _named(lm.model.config):
            found = _states(lm, rows, ways)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, IndexError):
        return math.inf
    return float((found - wanted).norm() / wanted.norm())


@contextmanager
def _named(config: Any) -> Iterator[None]:
    """Inside, the settings name the attention in blocks."""
    attention.register()
    config._attn_implementation = attention.NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"


def _states(lm: LanguageModel, rows: list[Encoded], ways: list[list[int]]) -> torch.Tensor:
    """Hidden states where the answers' tokens are predicted, laid out in each of the ways."""
    states = []
    for keys in ways:
        packed = pack(rows, keys, lm.pad_id).to(lm.device)
        with torch.no_grad(), lm.autocast():
            found = backbone(lm)(**inputs(lm, packed), use_cache=False).last_hidden_state
        states.append(found[packed.home[packed.row], packed.before].double())
    return torch.cat(states)
