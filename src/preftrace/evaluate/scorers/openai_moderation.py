"""OpenAI's moderation endpoint, or a server's like it: `openai-moderation[:<model>][@<base URL>][#<category>]`.

The score is the highest of the category scores, or the chosen category's (https://platform.openai.com/docs/guides/moderation).
The base URL is OPENAI_BASE_URL, or OpenAI's own, where the spec has none; the key is OPENAI_API_KEY. The revision is
URL, model and category; which model answered is told by the answers, and kept beside it, since a name such as
omni-moderation-latest moves.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from preftrace.errors import ConfigError, ModelError
from preftrace.evaluate.client import whole_text
from preftrace.evaluate.remote import Endpoint, base_problem, fraction

KEY, BASE = "OPENAI_API_KEY", "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"
MODEL = "omni-moderation-latest"
TOGETHER = 16
"""Texts in one request."""


def problem(argument: str) -> str:
    """What is wrong with the argument: a base URL in it must be one, without a key."""
    _, base, _ = _parts(argument)
    return base_problem(base) if base else ""


def build(argument: str) -> Moderation:
    """The scorer for a model, an endpoint and a category, each of which may be left out.

    Raises:
        ConfigError: OPENAI_BASE_URL is no URL, or holds a key.
    """
    model, base, category = _parts(argument)
    base = (base or os.environ.get(BASE, "").strip() or OPENAI).rstrip("/")
    if wrong := base_problem(base):
        raise ConfigError([f"{BASE}: {wrong}"])
    name = "openai-moderation" + (f":{argument}" if argument else "")
    revision = f"{base} {model or MODEL} {category or 'highest category'}"
    return Moderation(name, revision, f"{base}/moderations", model or MODEL, category)


@dataclass(slots=True)
class Moderation:
    """Asks the moderation endpoint, a few texts a request.

    `versions` are the models that the answers named.
    """

    name: str
    revision: str
    url: str
    model: str
    category: str
    versions: set[str] = field(default_factory=set)
    endpoint: Endpoint | None = field(default=None, repr=False)

    def ready(self) -> None:
        """Whether there is what it needs, before any work is done.

        Raises:
            ConfigError: OpenAI's own endpoint, and no key.
        """
        if self.url.startswith(OPENAI) and not os.environ.get(KEY, "").strip():
            raise ConfigError([f"scorer {self.name}: set the environment variable {KEY} to your key"])

    def score(self, texts: Sequence[str]) -> list[float]:
        """The highest category score of each text, or the chosen category's; NaN where there is none."""
        self.ready()
        if self.endpoint is None:
            self.endpoint = Endpoint(self.url, os.environ.get(KEY, "").strip())
        parts = [list(texts[i : i + TOGETHER]) for i in range(0, len(texts), TOGETHER)]
        found = dict(zip(map(tuple, parts), self._ask(parts), strict=True))
        # One text that is refused, or half an answer, costs its neighbours nothing.
        alone = [[text] for part in parts if len(part) > 1 and not found[tuple(part)] for text in part]
        found |= dict(zip(map(tuple, alone), self._ask(alone), strict=True))
        values = [
            found[tuple(part)] or [v for text in part for v in found.get((text,)) or [math.nan]] for part in parts
        ]
        return [value for part in values for value in part]

    def _ask(self, parts: Sequence[list[str]]) -> list[list[float]]:
        """The scores of each part, or [] where its answer has not one result for each text."""
        assert self.endpoint is not None
        answers = self.endpoint.post([{"model": self.model, "input": part} for part in parts])
        return [self._read(answer, len(part)) for answer, part in zip(answers, parts, strict=True)]

    def _read(self, answer: object, count: int) -> list[float]:
        assert self.endpoint is not None
        if answer is None:
            return []
        fields: dict[str, Any] = answer if isinstance(answer, dict) else {}
        results = fields.get("results")
        if not isinstance(results, list) or len(results) != count:
            self.endpoint.tell("an answer has not one result for each text")
            return []
        self.versions |= {whole_text(str(fields["model"]))[:200]} if fields.get("model") else set()
        values = [self._value(result) for result in results]
        if any(math.isnan(value) for value in values):
            self.endpoint.tell("a result has no category score between 0 and 1")
        return values

    def _value(self, result: object) -> float:
        scores = result.get("category_scores") if isinstance(result, dict) else None
        if not isinstance(scores, dict) or not scores:
            return math.nan
        if self.category and self.category not in scores:
            known = ", ".join(sorted(str(name) for name in scores))[:1000]
            raise ModelError(f"{self.url} has no category '{self.category}'; it has: {known}")
        if self.category:
            return fraction(scores[self.category])
        # A category that does not apply to text, or to this model, is null.
        found = [fraction(value) for value in scores.values() if value is not None]
        return math.nan if not found or any(math.isnan(value) for value in found) else max(found)


def _parts(argument: str) -> tuple[str, str, str]:
    """Model, base URL and category of an argument, each "" where it is left out."""
    rest, _, category = argument.partition("#")
    model, _, base = rest.partition("@")
    return model.strip(), base.strip(), category.strip()
