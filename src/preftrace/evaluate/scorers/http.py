"""An endpoint that speaks like the Perspective API: `http:<url>` or `http:<url>#<ATTRIBUTE>`, TOXICITY by default.

The request and the answer are those of `comments:analyze` (https://developers.perspectiveapi.com). Perspective itself
ends on 2026-12-31; services and servers of one's own that answer alike go on. The revision is the URL and the
attribute: such an answer does not say which model made it. A key is read from PREFTRACE_HTTP_KEY and sent as a bearer
token, to Google as its API key.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from preftrace.evaluate.remote import Endpoint, fraction, url_problem

KEY = "PREFTRACE_HTTP_KEY"
DEFAULT = "TOXICITY"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def problem(argument: str) -> str:
    """What is wrong with the argument: it must be a whole URL without a key, and may name an attribute."""
    url, _, attribute = argument.partition("#")
    if not url:
        return "http needs an endpoint: http:https://HOST/PATH[#ATTRIBUTE]"
    if attribute and not NAME.fullmatch(attribute):
        return f"'{attribute}' is no name of an attribute, such as TOXICITY"
    return url_problem(url)


def build(argument: str) -> Perspective:
    """The scorer for an endpoint, and an attribute after `#`."""
    url, _, attribute = argument.partition("#")
    attribute = attribute or DEFAULT
    return Perspective(name=f"http:{argument}", revision=f"{url}#{attribute}", url=url, attribute=attribute)


@dataclass(slots=True)
class Perspective:
    """Asks an endpoint for one attribute, a text a request."""

    name: str
    revision: str
    url: str
    attribute: str
    endpoint: Endpoint | None = field(default=None, repr=False)

    def score(self, texts: Sequence[str]) -> list[float]:
        """The attribute's summary score of each text; NaN where there is none."""
        if self.endpoint is None:
            google = (urlsplit(self.url).hostname or "").endswith(".googleapis.com")
            self.endpoint = Endpoint(self.url, os.environ.get(KEY, "").strip(), "X-Goog-Api-Key" if google else "")
        asked = {"requestedAttributes": {self.attribute: {}}, "doNotStore": True}
        answers = self.endpoint.post([{"comment": {"text": text}, **asked} for text in texts])
        values = [_value(answer, self.attribute) for answer in answers]
        if any(math.isnan(v) and a is not None for a, v in zip(answers, values, strict=True)):
            self.endpoint.tell(f"an answer has no {self.attribute} between 0 and 1")
        return values


def _value(answer: object, attribute: str) -> float:
    for name in ("attributeScores", attribute, "summaryScore", "value"):
        answer = answer.get(name) if isinstance(answer, dict) else None
    return fraction(answer)
