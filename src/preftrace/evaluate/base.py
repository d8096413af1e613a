"""What a vertical is: settings, items, a judge and a score. The runner and every vertical file share these."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, cast

from pydantic import Field, ValidationError, field_validator, model_validator

from preftrace.config import Config, faults
from preftrace.errors import ConfigError
from preftrace.registry import VERTICALS
from preftrace.types import Item, ItemScore, Judgement, Metric, Outcome, Sampling

STARTER = "starter"
FIVE = ("ethics", "privacy", "stereotypes", "toxicity", "truthfulness")
"""The verticals that are evaluated where none is named: those of arXiv 2404.18870. The others are asked for by name."""


class VerticalConfig(Config):
    """Where a vertical's items come from and by which protocol they are asked; every vertical adds its own fields.

    Class attribute `PAPER` holds the defaults that `protocol: paper` changes. `prompts` is left out of the identity:
    the strings that are used stand in the items, whose hash is part of every result.
    """

    SPEED: ClassVar[frozenset[str]] = frozenset({"prompts"})
    PAPER: ClassVar[Mapping[str, Any]] = {}

    protocol: Literal["corrected", "paper"] = Field(
        "corrected", description="corrected, or paper: as the public scripts of the paper do it, faults included"
    )
    prompts: str | None = Field(
        None, description="YAML or JSON file with the paper's prompt strings, for what protocol paper asks with them"
    )
    source: str = Field(STARTER, description="starter (preftrace's own items) or a public format")
    path: str | None = Field(
        None, description="file, data set folder or Hub id (owner/name) of a source other than starter"
    )
    subset: str | None = Field(None, description="configuration of a Hub data set, where it has several")
    split: str | None = Field(None, description="split of a Hub data set, where it has several")
    revision: str | None = Field(None, description="revision of a Hub data set: a tag or a commit")
    limit: int | None = Field(None, ge=1, description="most items: a seeded, balanced subset; none: all items")
    batch_size: int = Field(16, ge=1, description="items that the model answers together")

    @model_validator(mode="before")
    @classmethod
    def _paper_defaults(cls, given: Any) -> Any:
        paper = isinstance(given, Mapping) and given.get("protocol") == "paper"
        return {**cls.PAPER, **given} if paper else given

    @model_validator(mode="after")
    def _path_fits_source(self) -> VerticalConfig:
        if self.source == STARTER and self.files:
            raise ValueError(
                f"path '{self.files[0]}' is given and source is starter: name the source that the path is in"
            )
        if self.source != STARTER and not self.files:
            raise ValueError(f"source '{self.source}' needs a path: a file, a data set folder or a Hub id")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """Where the items are read from; nothing where they are the starter's."""
        return (self.path,) if self.path is not None else ()

    @property
    def sampling(self) -> Sampling | None:
        """How answers are drawn; None where nothing is generated."""
        return None


class GenerateConfig(VerticalConfig):
    """Settings of a vertical whose items are answered in text."""

    samples: int = Field(1, ge=1, description="answers drawn for each item")
    max_new_tokens: int = Field(32, ge=1, description="longest answer in tokens")
    temperature: float = Field(0.0, ge=0, description="0: greedy; above 0: sampled from the full distribution")
    num_beams: int = Field(
        1, ge=1, description="protocol paper, above 1: the samples are the best of so many beams, nearly alike"
    )

    @model_validator(mode="after")
    def _beams_fit(self) -> GenerateConfig:
        if self.num_beams > 1 and self.protocol != "paper":
            raise ValueError("num_beams above 1 needs protocol paper: beams are not independent samples")
        if self.temperature > 0 and 1 < self.num_beams < self.samples:
            raise ValueError(f"num_beams {self.num_beams} gives at most {self.num_beams} samples, not {self.samples}")
        return self

    @property
    def sampling(self) -> Sampling | None:
        """How answers are drawn; a greedy draw is made once, since all would be alike."""
        samples = self.samples if self.temperature > 0 else 1
        return Sampling(samples, self.max_new_tokens, self.temperature, self.protocol == "paper", self.num_beams)


class ScoredConfig(GenerateConfig):
    """Settings of a vertical whose answers are scored by a classifier."""

    scorer: str = Field("profanity", description="profanity, hf:MODEL, guard:MODEL, openai-moderation or http:URL")

    @field_validator("scorer")
    @classmethod
    def _scorer_exists(cls, value: str) -> str:
        from preftrace.evaluate import scoring

        problem = scoring.problem(value)
        if problem:
            raise ValueError(problem)
        return value


class Said(NamedTuple):
    """What a model said to one item: n answers, and how likely its options are.

    Attributes:
        responses: the answers.
        scores: the scorer's number for each; NaN where there is none.
        judgements: what each of them was.
        logprobs: log-likelihood of each of the item's options.
    """

    responses: Sequence[str] = ()
    scores: Sequence[float] = ()
    judgements: Sequence[Judgement] = ()
    logprobs: Sequence[float] = ()

    def share(self, outcome: Outcome) -> float:
        """Share of all answers that are of an outcome, in [0, 1]."""
        return sum(judgement.outcome == outcome for judgement in self.judgements) / len(self.judgements)

    @property
    def empty(self) -> float:
        """Share of all answers that hold nothing but white space, in [0, 1]."""
        return sum(not response.strip() for response in self.responses) / len(self.responses)

    @property
    def trust(self) -> float:
        """Mean trust of the answers that could be told, in [0, 1]; NaN where none could."""
        told = [judgement.trust for judgement in self.judgements if not math.isnan(judgement.trust)]
        return sum(told) / len(told) if told else math.nan


EMPTY = Metric("empty_rate", "empty answers", "lower", "share of all answers that hold nothing but white space")
"""A metric of every vertical that draws answers: a model that says nothing is neither toxic nor leaks anything."""


class Vertical(Protocol):
    """What a file in `verticals/` defines.

    `VERSION` is raised whenever its results may differ; `TRUST_FROM` says what an item's trust is computed from.
    """

    VERSION: int
    METRICS: tuple[Metric, ...]
    TRUST_FROM: Literal["samples", "options"]
    Config: type[VerticalConfig]

    def items(self, config: VerticalConfig, seed: int) -> list[Item]:
        """The items, each id once, in source order, at most `config.limit`."""
        ...

    def judge(self, item: Item, response: str, score: float) -> Judgement:
        """What one response was. `score` is the scorer's, NaN where there is none.

        A vertical that draws no answers need not have it.
        """
        ...

    def score(self, item: Item, said: Said) -> ItemScore:
        """One item's trust and measures."""
        ...


def load(name: str) -> Vertical:
    """The vertical called `name`.

    Raises:
        ConfigError: no such vertical.
    """
    return cast(Vertical, VERTICALS.load(name))


def has_scorer(vertical: Vertical) -> bool:
    """Whether a vertical's answers are scored by a classifier."""
    return issubclass(vertical.Config, ScoredConfig)


def configure(name: str, options: Mapping[str, Any] | None = None) -> VerticalConfig:
    """A vertical's settings from plain values.

    Raises:
        ConfigError: unknown vertical, unknown keys or bad values, all together.
    """
    model = load(name).Config
    try:
        return model(**(options or {}))
    except ValidationError as error:
        raise ConfigError(list(map(str, faults(error, model))), f"the options of {name}") from error
