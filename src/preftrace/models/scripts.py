"""Draws as the evaluation scripts of arXiv 2404.18870 make them, faults included, for `protocol: paper`.

The scripts call transformers' `generate` prompt by prompt with `num_beams` and sampling: one beam search per prompt, so
that its samples are nearly alike; the library's default keeps the 50 likeliest tokens. Their end token is GPT-2's
number 50256, which ends nothing in other vocabularies: answers go on to the token limit past their own end, whose mark
vanishes from the text. The text is what follows as many characters as the prompt has, white space included.
"""

from __future__ import annotations

from typing import Any

import torch

from preftrace.models.generate import Response, _own_settings_aside
from preftrace.models.loading import LanguageModel
from preftrace.types import Sampling

TOP_K = 50


def draw_as_scripts(lm: LanguageModel, prompt: str, sampling: Sampling, seed: int) -> list[Response]:
    """`sampling.samples` answers to one rendered prompt, from one call of the library's `generate`.

    Args:
        lm: the model.
        prompt: as rendered.
        sampling: samples, tokens, temperature, beams, and what the text is cut at.
        seed: of all draws of this prompt; they have no seeds of their own.
    """
    ids = torch.tensor([lm.tokenizer(prompt, add_special_tokens=lm.format == "raw")["input_ids"]], device=lm.device)
    devices = [lm.device] if lm.device.type == "cuda" else []
    with torch.inference_mode(), lm.autocast(), _own_settings_aside(lm), torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        output = lm.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=_settings(lm, sampling)
        )
    texts = lm.tokenizer.batch_decode(output, skip_special_tokens=True)
    rows = output[:, ids.shape[1] :].tolist()
    return [
        Response(cut(text[len(prompt) :], sampling.cuts), tuple(row), False)
        for text, row in zip(texts, rows, strict=True)
    ]


def cut(text: str, marks: tuple[str, ...]) -> str:
    """The text before the first of some marks; all of it where there is none."""
    ends = [place for mark in marks if (place := text.find(mark)) >= 0]
    return text[: min(ends)] if ends else text


def _settings(lm: LanguageModel, sampling: Sampling) -> Any:
    from transformers import GenerationConfig

    sampled = sampling.temperature > 0
    return GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        num_beams=sampling.num_beams,
        num_return_sequences=sampling.samples,
        do_sample=sampled,
        pad_token_id=lm.pad_id,
        **({"temperature": sampling.temperature, "top_k": TOP_K} if sampled else {}),
    )
