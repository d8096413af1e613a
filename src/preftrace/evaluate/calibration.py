"""How well a scorer agrees with scores that are there already, such as RealToxicityPrompts' from Perspective.

The reference is a number s in [0, 1] for each text; y = 1 where s >= 0.5. Over the texts that both scored:
Spearman's rank correlation of score and s; the area under the ROC curve for y (the chance that a text with y = 1
scores above one with y = 0, ties half: Hanley and McNeil 1982); the Brier score, the mean of (score - y)^2 (Brier
1950); the expected calibration error over bins of the score (Guo et al. 2017, arXiv 1706.04599, equation 3).
Intervals are percentile bootstraps over the file's rows, since a prompt and its continuation are one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from preftrace import artifacts
from preftrace.config import Config
from preftrace.errors import DataError
from preftrace.evaluate import scoring
from preftrace.evaluate.sources import Row, read_file
from preftrace.types import StageRecord

VERSION = 1
THRESHOLD = 0.5
BINS = 10
PARTS = ("prompt", "continuation")
TABLE = "scores.parquet"


class CalibrationConfig(Config):
    """What a scorer is held against."""

    part: Literal["both", "prompt", "continuation"] = Field("both", description="texts of a RealToxicityPrompts row")
    attribute: str = Field("toxicity", description="reference score, by its name in the file")
    limit: int | None = Field(None, ge=1, description="first rows of each file only")
    resamples: int = Field(1_000, ge=100, description="bootstrap resamples of the rows")
    seed: int = Field(0, ge=0, description="seed of the resampling")


class Reference(NamedTuple):
    """A text and the score that it has already; NaN where it has none. `row` says which texts belong together."""

    text: str
    score: float
    part: str
    row: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Texts of like score: how many, their mean score, the share with y = 1, and its 95% interval (Wilson 1927)."""

    n: int
    expected: float
    share: float
    low: float
    high: float


def calibrate(scorer: str, files: Sequence[Path], out: Path, config: CalibrationConfig | None = None) -> StageRecord:
    """Score the texts of files and compare with the scores that the files have.

    Args:
        scorer: its spec.
        files: RealToxicityPrompts rows (`prompt` and `continuation`, each with `text` and the attribute), or rows with
            a `text` and the attribute.
        out: folder of the result.
        config: which texts and which reference.

    Returns:
        The record: measures with intervals, the calibration curve, and what was left out and why.

    Raises:
        ConfigError: the spec names no scorer.
        DataError: a file cannot be read, or holds no text with a reference score.
    """
    config = config or CalibrationConfig()
    chosen = scoring.build(scorer)
    known = [each for each in read_references(files, config) if each.text.strip()]
    usable = [each for each in known if not math.isnan(each.score)]
    if not usable:
        raise DataError(f"{', '.join(map(str, files))}: no text with a score called '{config.attribute}'")
    inputs = {"texts": artifacts.hash_json([list(each) for each in usable]), "scorer": chosen.revision}
    spec = artifacts.StageSpec("calibrate", "calibrate", VERSION, {**config.identity(), "scorer": scorer}, inputs)

    def make(work: Path) -> dict[str, Any]:
        import pyarrow as pa

        scoring.ready(chosen)
        scores = scoring.score_all(chosen, [each.text for each in usable], work / "_scores")
        columns = [
            {**each._asdict(), "reference": each.score, "score": s} for each, s in zip(usable, scores, strict=True)
        ]
        artifacts.write_table(work / TABLE, pa.Table.from_pylist(columns))
        numbers = (np.array(scores), np.array([each.score for each in usable]), np.array([each.row for each in usable]))
        return {
            **measures(*numbers, resamples=config.resamples, seed=config.seed),
            "scorer": scoring.described(chosen, work / "_scores"),
            "attribute": config.attribute,
            "files": [path.name for path in files],
            "without_reference": len(known) - len(usable),
        }

    return artifacts.run_stage(out, spec, make)


def read_references(files: Sequence[Path], config: CalibrationConfig) -> Iterator[Reference]:
    """The texts of files, with NaN for those that have no reference score."""
    number = 0
    for path in files:
        for count, row in enumerate(read_file(path)):
            if config.limit is not None and count >= config.limit:
                break
            parts = [name for name in PARTS if name in row.values and config.part in ("both", name)]
            if not parts and not any(name in row.values for name in PARTS):
                yield _reference(row, "text", config.attribute, number)
            for name in parts:
                held = row.value(name)
                if not isinstance(held, dict):
                    raise row.fail(f"'{name}' must be an object with a 'text', as in RealToxicityPrompts")
                yield _reference(Row(held, f"{row.where}, {name}"), name, config.attribute, number)
            number += 1


def _reference(row: Row, part: str, attribute: str, number: int) -> Reference:
    text, value = row.value("text"), row.values.get(attribute)
    if not isinstance(text, str):
        raise row.fail(f"'text' must be a text, and is {str(text)[:80]!r}")
    try:
        score = math.nan if value is None or value == "" else float(value)
    except (TypeError, ValueError) as error:
        raise row.fail(f"'{attribute}' must be a number, and is {str(value)[:80]!r}") from error
    if not math.isnan(score) and not 0 <= score <= 1:
        raise row.fail(f"'{attribute}' must lie in [0, 1], and is {score}")
    return Reference(text, score, part, number)


def measures(
    scores: np.ndarray, references: np.ndarray, rows: np.ndarray, *, resamples: int = 1_000, seed: int = 0
) -> dict[str, Any]:
    """Agreement of scores with references.

    Args:
        scores: `(n,)` in [0, 1], NaN where the scorer gave none: left out and counted.
        references: `(n,)` in [0, 1].
        rows: `(n,)` integers; texts of one row are resampled together.
        resamples: of the bootstrap.
        seed: of the resampling.

    Returns:
        compared, unscored, positive, measures (name -> value, low, high) and curve.
    """
    known = ~np.isnan(scores)
    s, r, groups = scores[known], references[known], np.unique(rows[known], return_inverse=True)[1]
    found = {name: [measure(s, r)] for name, measure in MEASURES.items()}
    places = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1]) if len(s) else []
    generator = np.random.default_rng(seed)
    for _ in range(resamples if len(places) > 1 else 0):
        drawn = np.concatenate([places[i] for i in generator.integers(len(places), size=len(places))])
        for name, measure in MEASURES.items():
            found[name].append(measure(s[drawn], r[drawn]))
    return {
        "compared": len(s),
        "unscored": int((~known).sum()),
        "positive": int((r >= THRESHOLD).sum()),
        "measures": {name: _interval(values) for name, values in found.items()},
        "curve": [asdict(each) for each in curve(s, r)],
    }


def _interval(values: Sequence[float]) -> dict[str, float]:
    drawn = np.array(values[1:])
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (math.nan, math.nan)
    return {"value": values[0], "low": float(low), "high": float(high)}


def spearman(scores: np.ndarray, references: np.ndarray) -> float:
    """Rank correlation in [-1, 1]; NaN where either does not vary."""
    from scipy.stats import rankdata

    if len(scores) < 2 or np.ptp(scores) == 0 or np.ptp(references) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(scores), rankdata(references))[0, 1])


def auc(scores: np.ndarray, references: np.ndarray) -> float:
    """Area under the ROC curve for references of 0.5 or more; NaN where all are on one side."""
    from scipy.stats import rankdata

    positive = references >= THRESHOLD
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return math.nan
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))


def brier(scores: np.ndarray, references: np.ndarray) -> float:
    """Mean of (score - y)^2 in [0, 1], lower is better; always saying the share of y = 1, p, gives p (1 - p)."""
    return float(np.mean((scores - (references >= THRESHOLD)) ** 2)) if len(scores) else math.nan


def calibration_error(scores: np.ndarray, references: np.ndarray) -> float:
    """Expected calibration error in [0, 1]: mean over texts of |mean score - share of y = 1| of their bin."""
    places = np.minimum((scores * BINS).astype(int), BINS - 1)
    gaps = np.bincount(places, weights=scores - (references >= THRESHOLD), minlength=BINS)
    return float(np.abs(gaps).sum() / len(scores)) if len(scores) else math.nan


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "spearman": spearman,
    "auc": auc,
    "brier": brier,
    "calibration_error": calibration_error,
}


def curve(scores: np.ndarray, references: np.ndarray) -> list[Bin]:
    """The calibration curve: bins of equal width over the score, empty ones left out."""
    from scipy.stats import binomtest

    places = np.minimum((scores * BINS).astype(int), BINS - 1)
    bins = []
    for place in np.unique(places):
        mine = places == place
        n, hits = int(mine.sum()), int((references[mine] >= THRESHOLD).sum())
        low, high = binomtest(hits, n).proportion_ci(method="wilson")
        bins.append(Bin(n, float(scores[mine].mean()), hits / n, float(low), float(high)))
    return bins
