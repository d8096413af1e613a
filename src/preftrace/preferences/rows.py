"""Rows on their way to becoming pairs: what a reader yields and what a source makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from preftrace.preferences.config import PreferencesConfig
from preftrace.types import Prompt


class RowError(Exception):
    """A row that does not have the source's format; the reader adds the file and the place."""


class Row(NamedTuple):
    """One row of a file: where it is (`line 7`, counted from 1, or `row 6`, counted from 0) and what it holds."""

    place: str
    values: Mapping[str, Any]


class Material(NamedTuple):
    """Where pairs are read from: a name for messages, a content hash, and the rows, not yet parsed."""

    name: str
    digest: str
    rows: Callable[[], Iterator[Row]]


class Draft(NamedTuple):
    """A pair before it has its id: texts, flags that only the source can see, and what else the row said."""

    prompt: Prompt
    chosen: str
    rejected: str
    flags: tuple[str, ...] = ()
    meta: Mapping[str, Any] | None = None


class Source(Protocol):
    """What a file in `sources/` defines.

    Attributes:
        NEEDS: what it needs, for messages.
        PACKAGED: the file inside the package that it reads when no path is given, or None.
    """

    NEEDS: str
    PACKAGED: str | None

    def fits(self, row: Mapping[str, Any], config: PreferencesConfig) -> int:
        """How well a row has this format: 0 not at all; of several that fit, the highest is meant."""
        ...

    def read(self, row: Mapping[str, Any], config: PreferencesConfig) -> Draft:
        """Read one row.

        Raises:
            RowError: the row does not have this format.
        """
        ...


def text(row: Mapping[str, Any], column: str) -> str:
    """The text in a column.

    Raises:
        RowError: no such column, or something else than text in it.
    """
    value = present(row, column)
    if not isinstance(value, str):
        raise RowError(f"column '{column}' holds {describe(value)}, not text")
    return value


def present(row: Mapping[str, Any], column: str) -> Any:
    """The value in a column.

    Raises:
        RowError: no such column.
    """
    if column not in row:
        there = ", ".join(map(str, row)) or "none"
        raise RowError(f"no column '{column}'; columns there: {there}")
    return row[column]


def rest(row: Mapping[str, Any], used: Sequence[str]) -> dict[str, Any]:
    """The columns that were not used."""
    return {str(key): value for key, value in row.items() if key not in used}


def describe(value: Any) -> str:
    """The kind of a value in a reader's words."""
    names = {type(None): "nothing (null)", list: "a list", dict: "an object", bool: "a truth value", bytes: "bytes"}
    return "a number" if type(value) in (int, float) else names.get(type(value), f"a {type(value).__name__}")
