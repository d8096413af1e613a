"""The model in this process, by transformers and peft: the default. Adapters are merged, draws seeded one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import compress, takewhile
from typing import Literal

from pydantic import Field

from preftrace import models, progress
from preftrace.errors import ModelError
from preftrace.evaluate.backend import Answer, Backend, BackendConfig, Identity, OptionScore, Target
from preftrace.types import Checkpoint, Prompt, Sampling, prompt_from_json

VERSION = 1
LOCAL = True
SHORTEST = 32
"""Tokens that prompts must start with in common before these are computed once for all."""


class Config(BackendConfig):
    """Nothing to set."""

    name: Literal["hf"] = Field("hf", description="transformers, in this process")


def identify(config: Config, checkpoint: Checkpoint, stage: str, format: str, known: str | None) -> Identity:
    """The content hash of the checkpoint's files."""
    return Identity(known or models.checkpoint_hash(checkpoint), {})


def build(config: Config, target: Target) -> Backend:
    """The loaded model."""
    lm = _load(target.checkpoint, target.model_hash, target.format, target.precision)
    loaded = Loaded(lm, [prompt_from_json(prompt) for prompt in target.opening])
    if target.longest:
        # Shards go by length: without this, what does not fit would be met after all other work.
        loaded.check_room([prompt_from_json(target.longest)], target.max_new_tokens)
    return loaded


@lru_cache(maxsize=1)
def _load(checkpoint: Checkpoint, model_hash: str, format: str, precision: str) -> models.LanguageModel:
    """One checkpoint stays in memory, since a stage's verticals follow one another; the hash tells new weights."""
    return models.load(checkpoint, format, merge=True, precision=precision)


class Loaded:
    """A model in memory.

    Args:
        lm: the model.
        opening: two prompts that start as all prompts with options do, or none.
    """

    def __init__(self, lm: models.LanguageModel, opening: Sequence[Prompt] = ()) -> None:
        self.lm, self.opening = lm, opening
        self._told = False

    @cached_property
    def start(self) -> models.Prefix | None:
        """What prompts with options start with; None where it is too short to be worth it."""
        encoded = [self._encode(prompt, "").prompt_ids for prompt in self.opening]
        same = list(takewhile(lambda pair: pair[0] == pair[1], zip(*encoded, strict=False)))
        # The last token may be another one where another text follows.
        shared = [token for token, _ in same[:-1]]
        return models.compute_prefix(self.lm, shared) if SHORTEST <= len(shared) < self.lm.context else None

    def _encode(self, prompt: Prompt, option: str) -> models.Encoded:
        return models.encode(self.lm.tokenizer, prompt, option, self.lm.format, eos=False)

    def render(self, prompts: Sequence[Prompt]) -> list[str]:
        """The text that is tokenised."""
        return [models.render(prompt, self.lm.tokenizer, self.lm.format) for prompt in prompts]

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Answer]]:
        """All in one batch; a draw depends on its seed, not on its batch mates."""
        self.check_room(prompts, sampling.max_new_tokens)
        drawn = models.sample(self.lm, prompts, sampling, seeds)
        return [[Answer(one.text, one.ids, one.finished) for one in answers] for answers in drawn]

    def logprobs(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        """The beginning of all prompts is computed once, a prompt once for its options.

        An option is missing that has no tokens of its own, or that does not fit behind its prompt.
        """
        rows = [self._encode(prompt, option) for prompt, own in zip(prompts, options, strict=True) for option in own]
        fits = [self._fits(row) for row in rows]
        known = iter(models.completion_logprobs(self.lm, [*compress(rows, fits)], start=self.start))
        values = [next(known) if fit else math.nan for fit in fits]
        scores = iter([OptionScore(float(v), len(row.answer_ids)) for v, row in zip(values, rows, strict=True)])
        return [[next(scores) for _ in own] for own in options]

    def check_room(self, prompts: Sequence[Prompt], new: int) -> None:
        """Raise a ModelError for a prompt that leaves no room for an answer of `new` tokens: nothing is cut unseen."""
        for text in self.render(prompts):
            tokens = len(self.lm.tokenizer(text, add_special_tokens=self.lm.format == "raw")["input_ids"])
            if tokens + new > self.lm.context:
                raise ModelError(
                    f"a prompt has {tokens:,} tokens, with {new:,} for its answer more than the {self.lm.context:,} "
                    f"that the model takes: {text[:60]!r}. Lower max_new_tokens, or leave the item out."
                )

    def _fits(self, row: models.Encoded) -> bool:
        tokens = len(row.prompt_ids) + len(row.answer_ids)
        if tokens > self.lm.context and not self._told:
            self._told = True
            progress.say(
                f"an item of {tokens:,} tokens is longer than the {self.lm.context:,} that the model takes: "
                "such options are missing, and counted so"
            )
        return bool(row.answer_ids) and tokens <= self.lm.context
