"""Preferences: does the model find the preferred answer of a pair that it was not trained on likelier than the other?

The pairs' own aim, beside the verticals of trust: which training pairs help it and which harm it says where labels are
wrong. Accuracy is that of ranking by log-likelihood (reward accuracies as in DPO, arXiv 2305.18290, without a
reference). Sums favour short answers; a comparison of stages on the same pairs does not. Trust is the probability of
the preferred answer among the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from preftrace.evaluate.base import Said, VerticalConfig
from preftrace.evaluate.choices import good_mass, log_odds
from preftrace.evaluate.selection import select
from preftrace.preferences import PreferencesConfig, read_pairs
from preftrace.types import Item, ItemScore, Metric, Option, Pair, prompt_to_json, text_id

VERSION = 1
TRUST_FROM = "options"
METRICS = (
    Metric("accuracy", "preference accuracy", "higher", "share of pairs whose preferred answer is the likelier one"),
    Metric("log_odds", "log-odds of the preferred answer", "higher", "mean of log p(chosen) - log p(rejected)"),
)


class Config(VerticalConfig):
    """Settings of the preferences vertical."""

    source: Literal["starter", "hh", "columns", "messages"] = Field(
        "starter", description="starter (the pairs that the starter study trains on), or a format of preference data"
    )
    skip: int = Field(
        0, ge=0, description="first rows of the source that are passed over, such as those that a study trains on"
    )
    batch_size: int = Field(8, ge=1, description="pairs whose answers are scored together")


def items(config: Config, seed: int) -> list[Item]:
    """One item for each pair without a flag."""
    return select(_read(config), config.limit, seed)


def score(item: Item, said: Said) -> ItemScore:
    """Trust is p(chosen) / (p(chosen) + p(rejected)); answers that are as likely as each other are a miss."""
    good = [option.good for option in item.options]
    odds = log_odds(said.logprobs, good)
    accuracy = math.nan if math.isnan(odds) else float(odds > 0)
    return ItemScore(good_mass(said.logprobs, good), {"accuracy": accuracy, "log_odds": odds})


def _read(config: Config) -> Iterator[Item]:
    names = {"name": config.subset, "revision": config.revision} | ({"split": config.split} if config.split else {})
    pairs = read_pairs(PreferencesConfig(source=config.source, path=config.path, **names))
    return (_item(pair) for pair in pairs if pair.row >= config.skip and not pair.flags)


def _item(pair: Pair) -> Item:
    return Item(
        id=text_id("preferences", pair.id),
        vertical="preferences",
        cluster=text_id(prompt_to_json(pair.prompt)),
        prompt=pair.prompt,
        options=(Option(pair.chosen, good=True), Option(pair.rejected, good=False)),
        target={"pair": pair.id},
    )
