"""Which pairs are used, and which of them are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from preftrace.errors import DataError
from preftrace.preferences.config import FLAGS, PreferencesConfig
from preftrace.types import Pair, prompt_to_json


class Dropped(NamedTuple):
    """A pair that is not used, and the flag that is the reason."""

    pair: Pair
    reason: str


class Kept(NamedTuple):
    """Every pair that was read, in one of three places; order as read."""

    train: list[Pair]
    holdout: list[Pair]
    dropped: list[Dropped]


def keep(pairs: Sequence[Pair], config: PreferencesConfig, seed: int) -> Kept:
    """Leave out what the settings say and hold a share out of training.

    A pair with several flags is dropped for the first of `FLAGS`. Duplicates that are kept get `-2`, `-3`, ... behind
    their id, so that ids stay unique.

    Raises:
        DataError: no pair is left to train on.
    """
    kept = Kept([], [], [])
    out = {"malformed", *config.drop}
    times: dict[str, int] = {}
    for pair in pairs:
        reason = next((flag for flag in FLAGS if flag in pair.flags and flag in out), None)
        if reason is not None:
            kept.dropped.append(Dropped(pair, reason))
            continue
        times[pair.id] = count = times.get(pair.id, 0) + 1
        side = kept.holdout if in_holdout(pair, config.holdout, seed) else kept.train
        side.append(pair if count == 1 else replace(pair, id=f"{pair.id}-{count}"))
    if not kept.train:
        raise DataError(
            f"no pair is left to train on: {len(pairs)} read, {len(kept.dropped)} dropped "
            f"({reasons(kept) or 'none flagged'}), {len(kept.holdout)} held out. Change `drop`, `holdout` or the data."
        )
    return kept


def in_holdout(pair: Pair, share: float, seed: int) -> bool:
    """Whether a pair is held out: decided by its prompt and the seed alone.

    A hash of seed and prompt, read as a number in [0, 1), is compared with the share. So other rows never move a
    pair, pairs of one prompt lie on one side, and swapping or mending an answer leaves the pair where it is. The
    number held out is binomial, not exactly `share * n`.
    """
    digest = hashlib.sha256(f"{seed}\x1f{prompt_to_json(pair.prompt)}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def reasons(kept: Kept) -> dict[str, int]:
    """How many pairs were dropped for each reason."""
    counts = {flag: sum(dropped.reason == flag for dropped in kept.dropped) for flag in FLAGS}
    return {flag: n for flag, n in counts.items() if n}


def flag_counts(pairs: Sequence[Pair]) -> dict[str, int]:
    """How many pairs carry each flag; a pair may carry several."""
    counts = {flag: sum(flag in pair.flags for pair in pairs) for flag in FLAGS}
    return {flag: n for flag, n in counts.items() if n}
