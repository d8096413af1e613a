"""Seeded sampling: one seed per (prompt, sample), so that a draw does not depend on its batch mates.

A sample from softmax(logits / T) is the argmax of logits / T + g with g i.i.d. standard Gumbel (the Gumbel-max trick,
Yellott 1977). Each row has its own generator for g, and plain greedy decoding does the rest (`decode.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from preftrace.models.decode import continues, decode
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
    drawn = sample_ids(lm, rows, sampling, seeds, stops)
    return [[_response(lm, ids, stop) for ids in answers] for answers, stop in zip(drawn, stops, strict=True)]


def sample_ids(
    lm: LanguageModel,
    rows: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[Sequence[int]],
    stops: Sequence[str] | None = None,
) -> list[list[list[int]]]:
    """Draw `sampling.samples` answers to each row of prompt tokens, all in one batch; see `sample`.

    Equal prompts are computed once, whoever asks for them.

    Args:
        lm: the model.
        rows: n prompts as tokens.
        sampling: as in `sample`.
        seeds: as in `sample`.
        stops: a text for each prompt after which its answers need not go on; "" for none.

    Returns:
        n lists of `sampling.samples` answers as tokens, each up to its end token (included) or the token limit, or
        at the earliest up to the token that completes its prompt's stop.
    """
    flat = [int(seed) for row in seeds for seed in row[: sampling.samples]]
    noise = _GumbelMax(sampling.temperature, flat)
    with torch.inference_mode(), lm.autocast():
        if continues(lm):
            distinct = {tuple(row): place for place, row in enumerate(dict.fromkeys(map(tuple, rows)))}
            owners = [distinct[tuple(row)] for row in rows for _ in range(sampling.samples)]
            marks = [stop for stop in stops or [""] * len(rows) for _ in range(sampling.samples)]
            answers = decode(lm, list(distinct), owners, noise, sampling.max_new_tokens, _Ended(lm, marks))
        else:
            answers = _one_by_one(lm, [list(row) for row in rows for _ in range(sampling.samples)], sampling, noise)
    return [answers[i : i + sampling.samples] for i in range(0, len(answers), sampling.samples)]


def _one_by_one(lm: LanguageModel, rows: Sequence[list[int]], sampling: Sampling, noise: _GumbelMax) -> list[list[int]]:
    """One answer to each row by transformers' `generate`, every row with a prompt of its own."""
    from transformers import LogitsProcessorList

    width = max(len(row) for row in rows)
    ids = torch.tensor([[lm.pad_id] * (width - len(row)) + row for row in rows], device=lm.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=lm.device)
    with _own_settings_aside(lm):
        output = lm.model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=_settings(lm, sampling),
            logits_processor=LogitsProcessorList([noise]),
        )
    ends = set(end_ids(lm))
    return [_until_end(row, ends) for row in output[:, width:].tolist()]


class _Ended:
    """Whether an answer is complete: it has its end token, or its prompt's stop."""

    def __init__(self, lm: LanguageModel, stops: Sequence[str]) -> None:
        self.decode = lm.tokenizer.decode
        self.ends, self.stops = set(end_ids(lm)), stops

    def __call__(self, answer: int, ids: list[int]) -> bool:
        stop = self.stops[answer]
        # A token is a byte or more: a stop that has just been completed lies in so many tokens.
        texts = (self.decode(part, skip_special_tokens=True) for part in (ids[-len(stop.encode()) :], ids))
        return ids[-1] in self.ends or (bool(stop) and all(stop in text for text in texts))


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


class _GumbelMax:
    """Adds noise to logits, from a generator for each row; none at temperature 0."""

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self.temperature = temperature
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """As `generate` calls it."""
        return self.numbers(scores)

    def numbers(self, logits: torch.Tensor) -> torch.Tensor:
        if self.temperature == 0:
            return logits
        noise = torch.empty(logits.shape)
        for row, generator in zip(noise, self.generators, strict=True):
            row.exponential_(generator=generator)
        noisy: torch.Tensor = logits.float() / self.temperature
        return noisy.sub_(noise.log_().to(logits.device))

    def keep(self, places: Sequence[int]) -> None:
        self.generators = [self.generators[place] for place in places]


def _response(lm: LanguageModel, kept: list[int], stop: str) -> Response:
    ended = kept[-1] in end_ids(lm)
    text = lm.tokenizer.decode(kept[:-1] if ended else kept, skip_special_tokens=True)
    if not stop or stop not in text:
        return Response(text.strip(), tuple(kept), ended)
    cut = next(i for i in range(1, len(kept) + 1) if stop in lm.tokenizer.decode(kept[:i], skip_special_tokens=True))
    return Response(text.split(stop)[0].strip(), tuple(kept[:cut]), True)
