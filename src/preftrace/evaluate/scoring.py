"""Scorers: a number in [0, 1] for a text, higher is worse. Chosen by a spec such as `profanity` or `hf:<id>`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from preftrace import progress
from preftrace.engines import _base as shards
from preftrace.errors import ConfigError, DataError
from preftrace.registry import SCORERS

BATCH = 64
"""Texts that are scored and kept together: what a kill can lose."""


class Scorer(Protocol):
    """Scores texts. Built cheaply: whatever is heavy is loaded at the first call of `score`."""

    @property
    def name(self) -> str:
        """The spec that it was built from."""
        ...

    @property
    def revision(self) -> str:
        """Content hash or version of what computes the scores: part of every result."""
        ...

    def score(self, texts: Sequence[str]) -> list[float]:
        """One number in [0, 1] for each text, NaN where it could not be scored."""
        ...


@runtime_checkable
class Remote(Protocol):
    """What a scorer has too, whose answers say which model made them, or which needs a key."""

    versions: set[str]

    def ready(self) -> None:
        """Raise a UserError for what would stop it later."""
        ...


class ScorerModule(Protocol):
    """What a file in `scorers/` defines."""

    def build(self, argument: str) -> Scorer:
        """The scorer for what follows the colon of its spec ("" where there is none)."""
        ...

    def problem(self, argument: str) -> str:
        """What is wrong with the argument, or ""; loads nothing."""
        ...


def problem(spec: str) -> str:
    """What is wrong with a scorer's spec, or ""."""
    try:
        module, argument = _module(spec)
        return module.problem(argument)
    except ConfigError as error:
        return error.problems[0]


def build(spec: str) -> Scorer:
    """The scorer that a spec names.

    Raises:
        ConfigError: the spec names no scorer.
    """
    if found := problem(spec):
        raise ConfigError([f"scorer: {found}"])
    module, argument = _module(spec)
    return module.build(argument)


def _module(spec: str) -> tuple[ScorerModule, str]:
    # A file's name has no hyphen; what is called openai-moderation elsewhere is here too.
    name, _, argument = spec.partition(":")
    return cast(ScorerModule, SCORERS.load(name.replace("-", "_"))), argument


def ready(scorer: Scorer) -> None:
    """Raise a UserError where the scorer lacks what it needs, before other work is done for it."""
    if isinstance(scorer, Remote):
        scorer.ready()


def score_all(
    scorer: Scorer, texts: Sequence[str], folder: Path | None = None, known: Mapping[str, float] | None = None
) -> list[float]:
    """Scores of many texts, each distinct text scored once.

    A blank text is 0 by rule: nothing was said.

    Args:
        scorer: what scores.
        texts: n texts.
        folder: where scores are kept as they come, a batch at a time; the same call goes on after a kill.
        known: scores that are there already: these texts are not scored again.

    Returns:
        n numbers in [0, 1], NaN where there is none; how many is said.

    Raises:
        DataError: the scorer returned something other than one number in [0, 1], or NaN, for each text.
    """
    found = dict(known or {})
    # Texts of like length stand together, as a model is best given them.
    distinct = sorted({text for text in texts if text.strip()} - set(found), key=lambda text: (len(text), text))
    batches = [distinct[i : i + BATCH] for i in range(0, len(distinct), BATCH)]
    causes: set[str] = set()
    with progress.bar(f"score by {scorer.name}", len(batches) if len(batches) > 1 else 0) as advance:
        for number, batch in enumerate(batches):
            values = _batch(scorer, batch, causes) if folder is None else _kept(scorer, batch, folder, number, causes)
            found |= dict(zip(batch, values, strict=True))
            advance()
    missing = sum(math.isnan(found[text]) for text in distinct)
    if missing:
        why = f" ({', '.join(sorted(causes))})" if causes else ""
        progress.say(f"scorer '{scorer.name}': {missing:,} of {len(distinct):,} texts have no score{why}")
    return [found[text] if text.strip() else 0.0 for text in texts]


def described(scorer: Scorer, folder: Path) -> dict[str, Any]:
    """A scorer as results name it: its name, its revision, and the models that its kept answers named, if they do."""
    folders = sorted(path.parent for path in folder.glob("part-*/manifest.json"))
    lists = [names for part in folders for names in shards.gather_tables([part], "scores")["versions"].to_pylist()]
    versions = sorted({name for names in lists for name in names})
    return {"name": scorer.name, "revision": scorer.revision} | ({"versions": versions} if versions else {})


def _kept(scorer: Scorer, batch: Sequence[str], folder: Path, number: int, causes: set[str]) -> list[float]:
    """The scores of a batch: those that lie in the folder, or new ones, which are put there."""
    import pyarrow as pa

    digest = shards.shard_hash(scorer.name, {"revision": scorer.revision}, {"texts": list(batch)})
    if not shards.is_done(folder, number, digest):
        values = _batch(scorer, batch, causes)
        names = sorted(scorer.versions) if isinstance(scorer, Remote) else []
        columns = {"score": pa.array(values, pa.float64()), "versions": [names] * len(values)}
        kinds = pa.schema([("score", pa.float64()), ("versions", pa.list_(pa.string()))])
        shards.write_shard(folder, number, digest, {"scores": pa.table(columns, schema=kinds)})
    scores: list[float] = shards.gather_tables([shards.shard_folder(folder, number)], "scores")["score"].to_pylist()
    return scores


def _batch(scorer: Scorer, texts: Sequence[str], causes: set[str]) -> list[float]:
    """The scorer's numbers for a batch, checked; `causes` gathers what kept it from giving one."""
    scores = _scores(scorer, texts, causes)
    if len(scores) != len(texts):
        raise DataError(f"scorer '{scorer.name}' returned {len(scores)} scores for {len(texts)} texts")
    wrong = [value for value in scores if not math.isnan(value) and not 0 <= value <= 1]
    if wrong:
        raise DataError(f"scorer '{scorer.name}' returned {wrong[0]}; scores must lie in [0, 1], or be NaN")
    return scores


def _scores(scorer: Scorer, texts: Sequence[str], causes: set[str]) -> list[float]:
    """Scores of all texts at once; where that fails, of each by itself, NaN where it fails again."""
    try:
        return [float(value) for value in scorer.score(texts)]
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        if len(texts) == 1:
            causes.add(type(error).__name__)
            return [math.nan]
        return [score for text in texts for score in _scores(scorer, [text], causes)]
