"""Scorers behind HTTP: texts are posted a few at a time, and what fails is None, never a guess.

What is tried again, and how long is waited, is the client's business. URLs that hold a key are refused, since a
scorer's name is part of every result; messages name the URL and a status, and never what a server wrote.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from preftrace import progress
from preftrace.errors import ModelError
from preftrace.evaluate.client import Client, Refused

CONCURRENT = 4
"""Requests at a time."""
TIMEOUT = 60.0
RETRIES = 4
BACKOFF = 0.5
GIVE_UP = 20
"""After so many failed requests in a row nothing more is asked: the service is down."""
WRONG = {
    401: "the key is not accepted",
    403: "access is refused",
    404: "there is no such endpoint",
    405: "it takes no POST",
}
"""Statuses that are about the settings, and would be the same for every text."""
MOVED = "it sends elsewhere: name that address"
SECRET = re.compile(
    r"(.*[^a-z])?(api|access)?(key|token|secret|passw(or)?d|auth|authorization|credentials?|sig|signature)",
    re.IGNORECASE,
)
"""Names that a key goes by."""


def url_problem(url: str) -> str:
    """What is wrong with an endpoint's URL, or ""; a URL that may hold a key is not repeated."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"the URL cannot be read ({error})"
    asked = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if parts.username or parts.password or any(map(SECRET.fullmatch, asked)):
        return "the URL holds a key or a password, which would be written into every result; set it in the environment"
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        return f"{url[:200]!r} is no URL such as https://HOST/PATH"
    return ""


def base_problem(url: str) -> str:
    """As `url_problem`, of a URL that paths are put after."""
    return url_problem(url) or ("the URL must end before any ? or #" if set("?#") & set(url) else "")


def fraction(value: object) -> float:
    """`value` where it is a number in [0, 1], else NaN."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    return math.nan


@dataclass(slots=True)
class Endpoint:
    """One URL that takes JSON and gives JSON.

    Attributes:
        url: where to post to.
        key: sent as a bearer token; "": none is.
        header: where the key goes as it is instead; "": it is a bearer token.
        failed: requests that failed since the last one that did not.
    """

    url: str
    key: str = field(default="", repr=False)
    header: str = ""
    failed: int = 0
    _told: set[str] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def post(self, bodies: Sequence[dict[str, Any]]) -> list[Any]:
        """The answers to all bodies, in order; None where there is none.

        Raises:
            ModelError: a status says that the URL or the key is wrong.
        """
        parts = urlsplit(self.url)
        home, _, last = parts.path.rpartition("/")
        client = Client(f"{parts.scheme}://{parts.netloc}{home}", self.key, TIMEOUT, RETRIES, BACKOFF, self.header)
        path = f"{last}?{parts.query}" if parts.query else last
        with ThreadPoolExecutor(CONCURRENT) as threads:
            try:
                return list(threads.map(lambda body: self._post(lambda: client.post(path, body, _whole)), bodies))
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def tell(self, cause: str) -> None:
        """Say once why scores are missing; how many are is said when all are made."""
        with self._lock:
            new = cause not in self._told
            self._told.add(cause)
        if new:
            progress.say(f"{self.url}: {cause}; the score is missing")

    def _post(self, ask: Callable[[], Any]) -> Any:
        if self.failed >= GIVE_UP:
            return None
        try:
            answer = ask()
        except Refused as refused:
            why = MOVED if refused.status < 400 else WRONG.get(refused.status)
            if why:
                raise ModelError(f"{self.url} answered {refused.status}: {why}. What is scored is kept.") from refused
            # It is there, and will not have this text.
            self.failed = 0
            self.tell(f"a text was refused with status {refused.status}")
            return None
        except ModelError:
            with self._lock:
                self.failed += 1
                given_up = self.failed == GIVE_UP
            self.tell(f"no whole answer in {RETRIES + 1} tries")
            if given_up:
                self.tell(f"{GIVE_UP} requests in a row failed, so nothing more is asked")
            return None
        self.failed = 0
        return answer


def _whole(answer: Any) -> Any:
    return answer
