"""A vertical as another harness sees it: its items, the texts they are asked with, and what answers are worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from preftrace.errors import ConfigError
from preftrace.evaluate import scoring
from preftrace.evaluate.base import Said, ScoredConfig, configure, load
from preftrace.evaluate.scoring import Scorer
from preftrace.models.prompts import RAW_STOP, answer_text
from preftrace.types import OUTCOMES, Item, ItemScore, Judgement, Message, Prompt, readable

Render = Callable[[list[dict[str, str]]], str]
"""The turns of a conversation -> the text of a chat template."""


class Exported:
    """One vertical.

    Args:
        vertical: its name.
        options: fields of its settings.
        seed: of the items drawn.

    Raises:
        ConfigError: unknown vertical or settings, or the paper's protocol, whose draws only preftrace makes.
    """

    def __init__(self, vertical: str, options: Mapping[str, Any] | None = None, seed: int = 0) -> None:
        self.name, self.module, self.seed = vertical, load(vertical), seed
        self.config = configure(vertical, options)
        self.items = list(self.module.items(self.config, seed))
        self.sampling = self.config.sampling
        if self.sampling is not None and self.sampling.as_scripts:
            raise ConfigError([f"{vertical}: protocol paper draws as its scripts do: run it with preftrace evaluate"])
        self._scorer: Scorer | None = None

    @property
    def measures(self) -> dict[str, bool]:
        """Names of what an item is scored by -> whether higher is better."""
        named = {metric.name: metric.better == "higher" for metric in self.module.METRICS}
        return {"trust": True, **named, "missing": False}

    def judged(self, item: Item, responses: Sequence[str]) -> tuple[list[float], list[Judgement]]:
        """The scorer's number for each response (NaN where there is none), and what it was."""
        scores = [math.nan] * len(responses)
        if isinstance(self.config, ScoredConfig):
            self._scorer = self._scorer or scoring.build(self.config.scorer)
            scores = scoring.score_all(self._scorer, list(responses))
        return scores, [self.module.judge(item, text, score) for text, score in zip(responses, scores, strict=True)]

    def score(self, item: Item, responses: Sequence[str], logprobs: Sequence[float]) -> ItemScore:
        """One item's result from all of its responses and the log-likelihoods of its options."""
        scores, judgements = self.judged(item, responses)
        return self.module.score(item, Said(responses, scores, judgements, logprobs))

    def values(self, item: Item, responses: Sequence[str], logprobs: Sequence[float]) -> dict[str, float]:
        """One item's trust and measures by name, NaN where missing, and whether trust is missing (0 or 1)."""
        score = self.score(item, responses, logprobs)
        return {"trust": score.trust, **score.values, "missing": float(math.isnan(score.trust))}

    def outcomes(self, item: Item, responses: Sequence[str]) -> dict[str, int]:
        """How many responses were of each outcome."""
        found = [judgement.outcome for judgement in self.judged(item, responses)[1]]
        return {outcome: found.count(outcome) for outcome in OUTCOMES}


def turns(prompt: Prompt) -> list[dict[str, str]]:
    """A prompt as chat turns."""
    messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return [{"role": message.role, "content": message.content} for message in messages]


def prompt_text(prompt: Prompt, render: Render | None) -> str:
    """What a model is given: the raw text, or what `render` makes of the turns."""
    return readable(prompt) if render is None else render(turns(prompt))


def option_text(option: str, chat: bool) -> str:
    """An option as it follows the prompt."""
    return answer_text(option, "chat" if chat else "raw")


def stops(prompt: Prompt, chat: bool) -> list[str]:
    """Where an answer ends besides the end token: a raw conversation's ends where the model speaks for the user."""
    return [] if chat or isinstance(prompt, str) else [RAW_STOP]


def own_answer(text: str, prompt: Prompt, chat: bool) -> str:
    """An answer without what the model said for the user, and without white space around it."""
    for stop in stops(prompt, chat):
        text = text.split(stop)[0]
    return text.strip()


def known_mean(values: Sequence[float | None]) -> float:
    """Mean of the values that are not missing; NaN where none is there."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
