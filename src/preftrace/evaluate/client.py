"""JSON over HTTP, asked again where that may help: timeouts, broken connections, 429 and 5xx, answers cut short.

`Retry-After` (RFC 9110, section 10.2.3) is kept to; without it the wait doubles each time. No key is ever part of a
message or a record, and none is sent anywhere but to the address that was named: redirections are refused, and no other
key is taken from a netrc file.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from preftrace.errors import ModelError

T = TypeVar("T")
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
LONGEST_WAIT = 300.0
SHOWN = 300


class Incomplete(Exception):
    """An answer that lacks what every whole answer has."""


NONSENSE = (Incomplete, LookupError, TypeError, ValueError, AttributeError)
"""What reading an answer raises where it is not what it should be."""
HALF = re.compile("[\ud800-\udfff]")


def whole_text(text: str) -> str:
    """Text without halves of surrogate pairs, which JSON can hold and no file can."""
    return HALF.sub("\N{REPLACEMENT CHARACTER}", text)


class Refused(ModelError):
    """The server will not do what was asked, however often.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Client:
    """Asks one server.

    Attributes:
        base_url: what paths are put after.
        key: sent as a bearer token; "" sends none.
        timeout: seconds to connect, and between two bytes of an answer.
        retries: how often a request is sent again.
        backoff: seconds before the first time; doubled each time.
        header: where the key goes as it is, rather than as a bearer token; "": it is a bearer token.
    """

    base_url: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    retries: int = 5
    backoff: float = 1.0
    header: str = ""
    _local: threading.local = field(default_factory=threading.local, repr=False)

    def __post_init__(self) -> None:
        if not (self.key.isascii() and self.key.isprintable()):
            raise ModelError(f"the key for {self.base_url} holds a character that no key has. Copy it anew.")

    def get(self, path: str, read: Callable[[Any], T]) -> T:
        """What `read` makes of the JSON at a path; errors as for `post`."""
        return self._ask("GET", path, None, read)

    def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], T]) -> T:
        """Send `body` as JSON and return what `read` makes of the JSON that comes back.

        Args:
            path: where to, below the base URL.
            body: JSON values.
            read: gets the answer; where it raises one of `NONSENSE` the answer is taken for one that was cut short, and
                is asked for again.

        Raises:
            Refused: a status that asking again will not change.
            ModelError: no whole answer after all tries.
        """
        return self._ask("POST", path, body, read)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None, read: Callable[[Any], T]) -> T:
        url = f"{self.base_url.rstrip('/')}/{path.lstrip('/')}"
        for attempt in range(self.retries + 1):
            try:
                return read(self._once(method, url, body))
            except _Later as later:
                problem, wait = str(later), later.wait
            except NONSENSE as error:
                problem, wait = f"an answer that lacks something ({type(error).__name__}: {error})", None
            if attempt < self.retries:
                time.sleep(min(self.backoff * 2**attempt if wait is None else wait, LONGEST_WAIT))
        raise ModelError(
            f"{url}: {self._safe(problem)}, after {self.retries + 1} tries. What is finished is kept: "
            "see to the server and run the same command again."
        )

    def _once(self, method: str, url: str, body: Mapping[str, Any] | None) -> Any:
        import requests

        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.auth = lambda request: request  # or a netrc file would be read, and take our place
        named = {self.header: self.key} if self.header else {"Authorization": f"Bearer {self.key}"}
        headers = named if self.key else {}
        try:
            answer = self._local.session.request(
                method, url, json=body, headers=headers, timeout=self.timeout, allow_redirects=False
            )
        except requests.exceptions.InvalidURL as error:
            raise ModelError(f"{url} is no address: {error}") from error
        except requests.exceptions.RequestException as error:
            raise _Later(f"no answer ({type(error).__name__})") from error
        if answer.status_code in AGAIN:
            raise _Later(f"status {answer.status_code} ({self._said(answer)})", _retry_after(answer.headers))
        if answer.is_redirect:
            raise Refused(f"{url} sends elsewhere (status {answer.status_code}): name that address", answer.status_code)
        if answer.status_code >= 400:
            words = f"{url} refused with status {answer.status_code}: {self._said(answer)}"
            raise Refused(words, answer.status_code)
        try:
            return answer.json()
        except (ValueError, RecursionError) as error:
            raise _Later(f"an answer that is not JSON ({self._said(answer)[:80]!r})") from error

    def _said(self, answer: Any) -> str:
        """The beginning of what a server wrote; the key goes first, or a part of it would stay at the end."""
        return self._safe(answer.text)[:SHOWN].strip()

    def _safe(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text


class _Later(Exception):
    """A failure that may pass; `wait` is what the server asked for, in seconds."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, whether it says seconds or a date; None where it says nothing of use."""
    from urllib3 import Retry
    from urllib3.exceptions import InvalidHeader

    try:
        return Retry().parse_retry_after(headers["Retry-After"])
    except (KeyError, InvalidHeader, OverflowError, ValueError):
        return None
