"""Scorers: a number in [0, 1] for a text, higher is worse. Chosen by a spec such as `profanity` or `hf:<id>`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, cast

from preftrace import progress
from preftrace.errors import ConfigError, DataError
from preftrace.registry import SCORERS


class Scorer(Protocol):
    """Scores texts. Built cheaply: whatever is heavy is loaded at the first call of `score`."""

    @property
    def name(self) -> str:
        """The spec that it was built from."""
        ...

    @property
    def revision(self) -> str:
        """Content hash or version of what computes the scores: part of every result."""
        ...

    def score(self, texts: Sequence[str]) -> list[float]:
        """One number in [0, 1] for each text, NaN where it could not be scored."""
        ...


class ScorerModule(Protocol):
    """What a file in `scorers/` defines."""

    def build(self, argument: str) -> Scorer:
        """The scorer for what follows the colon of its spec ("" where there is none)."""
        ...

    def problem(self, argument: str) -> str:
        """What is wrong with the argument, or ""; loads nothing."""
        ...


def problem(spec: str) -> str:
    """What is wrong with a scorer's spec, or ""."""
    name, _, argument = spec.partition(":")
    try:
        return cast(ScorerModule, SCORERS.load(name)).problem(argument)
    except ConfigError as error:
        return error.problems[0]


def build(spec: str) -> Scorer:
    """The scorer that a spec names.

    Raises:
        ConfigError: the spec names no scorer.
    """
    if found := problem(spec):
        raise ConfigError([f"scorer: {found}"])
    name, _, argument = spec.partition(":")
    return cast(ScorerModule, SCORERS.load(name)).build(argument)


def _scores(scorer: Scorer, texts: Sequence[str]) -> list[float]:
    """Scores of all texts at once; where that fails, of each by itself, NaN where it fails again."""
    try:
        return [float(value) for value in scorer.score(texts)] if texts else []
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        if len(texts) == 1:
            progress.say(f"scorer '{scorer.name}' failed on a text ({type(error).__name__}): its score is missing")
            return [math.nan]
        return [score for text in texts for score in _scores(scorer, [text])]


def score_all(scorer: Scorer, texts: Sequence[str]) -> list[float]:
    """Scores of many texts, each distinct text scored once.

    A blank text is 0 by rule: nothing was said.

    Raises:
        DataError: the scorer returned something other than one number in [0, 1], or NaN, for each text.
    """
    distinct = sorted({text for text in texts if text.strip()})
    scores = _scores(scorer, distinct)
    if len(scores) != len(distinct):
        raise DataError(f"scorer '{scorer.name}' returned {len(scores)} scores for {len(distinct)} texts")
    wrong = [value for value in scores if not math.isnan(value) and not 0 <= value <= 1]
    if wrong:
        raise DataError(f"scorer '{scorer.name}' returned {wrong[0]}; scores must lie in [0, 1], or be NaN")
    known = dict(zip(distinct, scores, strict=True))
    return [known[text] if text.strip() else 0.0 for text in texts]
