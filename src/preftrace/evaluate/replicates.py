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
    if "" in left or "" in right:
        return [(left.get(key, a), right.get(key, b)) for key in (left if "" in right else right)]
    if left.keys() != right.keys():
        odd = ", ".join(sorted(left.keys() ^ right.keys()))
        raise DataError(f"{a} and {b} do not match the same seeds: only one of the two has {odd}.")
    return [(left[key], right[key]) for key in left]


def _matches(pattern: Path) -> dict[str, Path]:
    """What the `*` stand for -> path; the empty text for a path that is no pattern."""
    text = str(pattern)
    if "*" not in text or pattern.exists():
        return {"": pattern}
    parts = re.compile("([^/]*)".join(map(re.escape, text.split("*"))))
    found = {}
    for path in sorted(glob.glob(text)):
        match = parts.fullmatch(path)
        if match:
            found[" ".join(match.groups())] = Path(path)
    if not found:
        raise DataError(f"{text} matches no file or folder.")
    return found
