"""Runs that differ by their seed, named by two patterns: `runs/s*/evaluate/sft` and `runs/s*/evaluate/dpo`."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from preftrace.errors import DataError


def find_replicates(a: Path, b: Path) -> list[tuple[Path, Path]]:
    """Before and after of each seed; one pair where neither path has a `*`.

    What the `*` stand for pairs the matches. A path without one is the same for all seeds.

    Raises:
        DataError: a pattern matches nothing, or the two match different seeds.
    """
    left, right = _matches(a), _matches(b)
    seeds = left if left is not None else right
    if seeds is None:
        return [(a, b)]
    left, right = left or dict.fromkeys(seeds, a), right or dict.fromkeys(seeds, b)
    if left.keys() != right.keys():
        odd = ", ".join(" ".join(key) or "nothing" for key in sorted(left.keys() ^ right.keys()))
        raise DataError(f"{a} and {b} do not match the same seeds: only one of the two has {odd}.")
    return [(left[key], right[key]) for key in left]


def _matches(pattern: Path) -> dict[tuple[str, ...], Path] | None:
    """What the `*` stand for -> path; None for a path that is no pattern."""
    text = str(pattern)
    if "*" not in text or pattern.exists():
        return None
    parts = re.compile("([^/]*)".join(map(re.escape, text.split("*"))))
    found = {match.groups(): Path(path) for path in sorted(glob.glob(text)) if (match := parts.fullmatch(path))}
    if not found:
        raise DataError(f"{text} matches no file or folder.")
    return found
