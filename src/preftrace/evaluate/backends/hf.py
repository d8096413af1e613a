"""The model in this process, by transformers and peft: the default. Adapters are merged, draws seeded one by one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import takewhile
from typing import Literal

from pydantic import Field

from preftrace import models
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
    return Loaded(lm, [prompt_from_json(prompt) for prompt in target.opening])


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

    @cached_property
    def start(self) -> models.Prefix | None:
        """What prompts with options start with; None where it is too short to be worth it."""
        encoded = [self._encode(prompt, "").prompt_ids for prompt in self.opening]
        same = list(takewhile(lambda pair: pair[0] == pair[1], zip(*encoded, strict=False)))
        # The last token may be another one where another text follows.
        shared = [token for token, _ in same[:-1]]
        return models.compute_prefix(self.lm, shared) if len(shared) >= SHORTEST else None

    def _encode(self, prompt: Prompt, option: str) -> models.Encoded:
        return models.encode(self.lm.tokenizer, prompt, option, self.lm.format, eos=False)

    def render(self, prompts: Sequence[Prompt]) -> list[str]:
        """The text that is tokenised."""
        return [models.render(prompt, self.lm.tokenizer, self.lm.format) for prompt in prompts]

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Answer]]:
        """All in one batch; a draw depends on its seed, not on its batch mates."""
        drawn = models.sample(self.lm, prompts, sampling, seeds)
        return [[Answer(one.text, one.ids, one.finished) for one in answers] for answers in drawn]

    def logprobs(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        """The beginning of all prompts is computed once, a prompt once for its options."""
        rows = [self._encode(prompt, option) for prompt, own in zip(prompts, options, strict=True) for option in own]
        values = models.completion_logprobs(self.lm, rows, start=self.start)
        scores = iter([OptionScore(float(v), len(row.answer_ids)) for v, row in zip(values, rows, strict=True)])
        return [[next(scores) for _ in own] for own in options]
