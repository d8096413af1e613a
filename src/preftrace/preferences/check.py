"""What `preftrace pairs check` reports about a file of pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from preftrace import progress
from preftrace.preferences.config import FLAGS
from preftrace.preferences.reading import flagged
from preftrace.types import Pair, Prompt, readable

Measure = Callable[[Prompt, str], tuple[int, int]]
"""Length of a prompt and of an answer to it, in one unit."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
ROWS_SHOWN = 10
EXAMPLES = 2


class Lengths(NamedTuple):
    """Lengths of one pair, in the unit of whatever measured them."""

    prompt: int
    chosen: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Spread:
    """How long a text is over all pairs."""

    mean: float
    median: float
    p95: float
    max: int


@dataclass(frozen=True, slots=True)
class Flagged:
    """How many pairs carry a flag, and the first rows (0-based) that do."""

    count: int
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PairsReport:
    """A summary of a set of pairs.

    Attributes:
        path: what was read.
        source: the format it was read as.
        read: rows read.
        unflagged: pairs without any flag.
        flags: every flag that can be set here, also those that no pair carries.
        lengths: `prompt`, `chosen` and `rejected` -> their lengths.
        examples: the first two unflagged pairs.
    """

    path: str
    source: str
    read: int
    unflagged: int
    flags: dict[str, Flagged]
    lengths: dict[str, Spread]
    examples: tuple[Pair, ...]


def measure_pairs(pairs: Sequence[Pair], measure: Measure) -> list[Lengths]:
    """The lengths of every pair; `measure` is called once per answer."""
    lengths = []
    with progress.bar("measuring pairs", len(pairs)) as step:
        for pair in pairs:
            prompt, chosen = measure(pair.prompt, pair.chosen)
            lengths.append(Lengths(prompt, chosen, measure(pair.prompt, pair.rejected)[1]))
            step()
    return lengths


def count_words(prompt: Prompt, answer: str) -> tuple[int, int]:
    """A measure that needs no tokenizer: words between white space."""
    return len(readable(prompt).split()), len(answer.split())


def mark_truncated(pairs: Sequence[Pair], lengths: Sequence[Lengths], max_length: int) -> list[Pair]:
    """Flag as `truncated` what does not fit: prompt and longer answer together exceed `max_length` tokens."""
    return [
        flagged(pair, "truncated") if size.prompt + max(size.chosen, size.rejected) > max_length else pair
        for pair, size in zip(pairs, lengths, strict=True)
    ]


def summarise(path: str, source: str, pairs: Sequence[Pair], lengths: Sequence[Lengths]) -> PairsReport:
    """Counts, flags, lengths and examples of at least one pair."""
    flags = {}
    for flag in FLAGS:
        rows = [pair.row for pair in pairs if flag in pair.flags]
        flags[flag] = Flagged(len(rows), tuple(rows[:ROWS_SHOWN]))
    clean = [pair for pair in pairs if not pair.flags]
    spreads = {name: _spread([size[k] for size in lengths]) for k, name in enumerate(Lengths._fields)}
    return PairsReport(path, source, len(pairs), len(clean), flags, spreads, tuple(clean[:EXAMPLES]))


def printable(text: str) -> str:
    """The text without control characters, which a terminal would obey."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _spread(values: Sequence[int]) -> Spread:
    import numpy as np

    return Spread(float(np.mean(values)), float(np.median(values)), float(np.percentile(values, 95)), max(values))
