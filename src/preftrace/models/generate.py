"""Seeded sampling: one seed per (prompt, sample), so that a draw does not depend on its batch mates.

A sample from softmax(logits / T) is the argmax of logits / T + g with g i.i.d. standard Gumbel (the Gumbel-max trick,
Yellott 1977). Each row has its own generator for g, and plain greedy decoding does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from preftrace.models.loading import LanguageModel
from preftrace.models.prompts import RAW_STOP, render
from preftrace.types import Prompt, Sampling


class Response(NamedTuple):
    """One sampled answer.

    Attributes:
        text: what it says, without the end token and without anything said for the user.
        ids: its tokens, the end token or the stop marker included.
        finished: whether the model ended it, rather than the token limit.
    """

    text: str
    ids: tuple[int, ...]
    finished: bool


def sample(
    lm: LanguageModel, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
) -> list[list[Response]]:
    """Draw `sampling.samples` answers to each prompt, all in one batch.

    Args:
        lm: the model.
        prompts: n prompts.
        sampling: samples, most new tokens, temperature (0: greedy); `as_scripts` is handed on to `models.scripts`.
        seeds: `seeds[i][j]` draws sample j of prompt i.

    Returns:
        n lists of `sampling.samples` responses.
    """
    texts = [render(prompt, lm.tokenizer, lm.format) for prompt in prompts]
    if sampling.as_scripts:
        from preftrace.models.scripts import draw_as_scripts

        return [draw_as_scripts(lm, text, sampling, own[0]) for text, own in zip(texts, seeds, strict=True)]
    rows = [lm.tokenizer(text, add_special_tokens=lm.format == "raw")["input_ids"] for text in texts]
    stops = [RAW_STOP if lm.format == "raw" and not isinstance(p, str) else "" for p in prompts]
    drawn = sample_ids(lm, rows, sampling, seeds)
    return [[_response(lm, ids, stop) for ids in answers] for answers, stop in zip(drawn, stops, strict=True)]


def sample_ids(
    lm: LanguageModel, rows: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[Sequence[int]]
) -> list[list[list[int]]]:
    """Draw `sampling.samples` answers to each row of prompt tokens, all in one batch; see `sample`.

    Returns:
        n lists of `sampling.samples` answers as tokens, each up to its end token (included) or the token limit.
    """
    repeated = [list(row) for row in rows for _ in range(sampling.samples)]
    width = max(len(row) for row in repeated)
    ids = torch.tensor([[lm.pad_id] * (width - len(row)) + row for row in repeated], device=lm.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in repeated], device=lm.device)
    flat_seeds = [seed for row in seeds for seed in row[: sampling.samples]]
    settings = _settings(lm, sampling)
    with torch.inference_mode(), lm.autocast(), _own_settings_aside(lm):
        output = lm.model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=settings,
            logits_processor=_processors(sampling.temperature, flat_seeds),
        )
    ends = set(end_ids(lm))
    answers = [_until_end(row, ends) for row in output[:, width:].tolist()]
    return [answers[i : i + sampling.samples] for i in range(0, len(answers), sampling.samples)]


def _until_end(ids: list[int], ends: set[int]) -> list[int]:
    return next((ids[: i + 1] for i, token in enumerate(ids) if token in ends), ids)


def end_ids(lm: LanguageModel) -> list[int]:
    """Tokens that end an answer: the tokenizer's and the model's own."""
    own = lm.model.generation_config.eos_token_id
    listed = own if isinstance(own, list) else [own]
    return sorted({int(i) for i in [*listed, lm.tokenizer.eos_token_id] if i is not None})


def _settings(lm: LanguageModel, sampling: Sampling) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=sampling.max_new_tokens, do_sample=False, pad_token_id=lm.pad_id, eos_token_id=end_ids(lm)
    )


@contextmanager
def _own_settings_aside(lm: LanguageModel) -> Iterator[None]:
    """What a call leaves open is filled with the model's own: a repetition penalty would change the draws."""
    from peft import PeftModel
    from transformers import GenerationConfig

    holders = [lm.model, lm.model.get_base_model()] if isinstance(lm.model, PeftModel) else [lm.model]
    own = [holder.generation_config for holder in holders]
    for holder in holders:
        holder.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for holder, settings in zip(holders, own, strict=True):
            holder.generation_config = settings


def _processors(temperature: float, seeds: Sequence[int]) -> Any:
    from transformers import LogitsProcessorList

    return LogitsProcessorList([_GumbelMax(temperature, seeds)] if temperature > 0 else [])


class _GumbelMax:
    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self.temperature = temperature
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = torch.stack([torch.empty(scores.shape[1]).exponential_(generator=g) for g in self.generators])
        noisy: torch.Tensor = scores.float() / self.temperature - noise.log().to(scores.device)
        return noisy


def _response(lm: LanguageModel, kept: list[int], stop: str) -> Response:
    ended = kept[-1] in end_ids(lm)
    text = lm.tokenizer.decode(kept[:-1] if ended else kept, skip_special_tokens=True)
    if not stop or stop not in text:
        return Response(text.strip(), tuple(kept), ended)
    cut = next(i for i in range(1, len(kept) + 1) if stop in lm.tokenizer.decode(kept[:i], skip_special_tokens=True))
    return Response(text.split(stop)[0].strip(), tuple(kept[:cut]), True)
