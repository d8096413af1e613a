"""A vertical as another harness sees it: its items, the texts they are asked with, and what answers are worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from preftrace.errors import ConfigError
from preftrace.evaluate import scoring
from preftrace.evaluate.base import EMPTY, Said, ScoredConfig, configure, load
from preftrace.evaluate.layout import Layout, collapse
from preftrace.evaluate.scoring import Scorer
from preftrace.evaluate.weights import linearised
from preftrace.models.prompts import RAW_STOP, answer_text
from preftrace.types import OUTCOMES, Item, Message, Prompt, readable

Render = Callable[[list[dict[str, str]]], str]
"""The turns of a conversation -> the text of a chat template."""


class Judged(NamedTuple):
    """One item.

    Attributes:
        values: trust and its measures by name, NaN where missing, and whether trust is missing (0 or 1).
        weights: how much a measure's value counts in the mean over items, where that is not 1.
        outcomes: how many responses were of each outcome.
    """

    values: dict[str, float]
    weights: dict[str, float]
    outcomes: dict[str, int]


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
        drawn = () if self.sampling is None else (EMPTY,)
        named = {metric.name: metric.better == "higher" for metric in (*self.module.METRICS, *drawn)}
        return {"trust": True, **named, "missing": False}

    def judge(self, item: Item, responses: Sequence[str], logprobs: Sequence[float]) -> Judged:
        """One item's result from all of its responses and the log-likelihoods of its options."""
        scores = [math.nan] * len(responses)
        if isinstance(self.config, ScoredConfig):
            self._scorer = self._scorer or scoring.build(self.config.scorer)
            scores = scoring.score_all(self._scorer, list(responses))
        judgements = [self.module.judge(item, text, score) for text, score in zip(responses, scores, strict=True)]
        said = Said(responses, scores, judgements, logprobs)
        found = self.module.score(item, said)
        silent = {EMPTY.name: said.empty} if responses else {}
        outcomes = [judgement.outcome for judgement in judgements]
        return Judged(
            {"trust": found.trust, **found.values, **silent, "missing": float(math.isnan(found.trust))},
            dict(found.weights),
            {outcome: outcomes.count(outcome) for outcome in OUTCOMES},
        )


def labels(item: Item) -> dict[str, str]:
    """Which items move together, as `preftrace compare` reads it from a harness's log."""
    return {"cluster": item.cluster, "crossed": item.crossed, "unit": item.unit}


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


def mean_of(values: Sequence[float], weights: Sequence[float], units: Sequence[str]) -> float:
    """Mean of the values that are known, as preftrace has it: by weight, items of one unit as one; NaN without any."""
    column, known = np.array(values, float)[:, None], ~np.isnan(values)
    if not known.any():
        return math.nan
    column = linearised(column, known[:, None], np.array(weights, float)[:, None])[known]
    own = [unit for unit, there in zip(units, known, strict=True) if there]
    return float(collapse(column, Layout([""] * len(own), [""] * len(own), own))[0].mean())
