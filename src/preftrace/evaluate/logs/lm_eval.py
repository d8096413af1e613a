"""Logs of lm-eval (github.com/EleutherAI/lm-evaluation-harness): `samples_TASK_DATE.jsonl` of `--log_samples`.

Each line is one document under one filter: `doc_hash`, `prompt_hash`, `filter`, `metrics` (names) and their values.
Items are paired by `doc_hash`. A measure under several filters is named `exact_match,strict-match`, as in lm-eval's own
tables. Which direction is better stands in `results_DATE.json` beside it; without that file more is taken to be better,
but for perplexities, error and edit rates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from preftrace.errors import DataError
from preftrace.evaluate.logs._log import Gathered, Log, build, column, labels, number

PATTERN = "samples_*.jsonl"
NAME = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+))?")
LOWER = re.compile(r"perplexity|ppl|bits_per_byte|\b(?:ter|wer|cer|mse|mae|rmse|brier_score|loss)\b")
NEEDED = ("doc_hash", "metrics")
BYPASS = "bypass"
"""What `--predict_only` writes in place of a measure: 999 for every sample."""


def task(path: Path) -> str:
    """The task that a file's name holds."""
    match = NAME.fullmatch(path.stem)
    return match["task"] if match else path.stem


def read(path: Path) -> Log:
    """One task's samples.

    Raises:
        DataError: a line that is not a sample of lm-eval, or no measure that is one number a sample.
    """
    gathered: dict[str, Gathered] = {}
    filters = list(dict.fromkeys(str(sample.get("filter", "none")) for _, sample in _samples(path)))
    measures: dict[str, None] = {}
    for _, sample in _samples(path):
        values = {}
        for name in (n for n in sample["metrics"] if n != BYPASS):
            value = number(sample.get(name))
            if value is not None:
                values[name if len(filters) == 1 else f"{name},{sample.get('filter')}"] = value
        told = Gathered(str(sample.get("prompt_hash", "")), labels(sample.get("doc")))
        item = gathered.setdefault(sample["doc_hash"], told)
        item.add(values)
        measures |= dict.fromkeys(map(column, values))
    better = _directions(path)
    lower = frozenset(name for name in measures if _is_lower(name, better))
    return build(path, task(path), gathered, list(measures), lower)


def _samples(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with open(path, encoding="utf-8") as file:
            for count, line in enumerate(file, 1):
                if line.strip():
                    yield count, _sample(path, count, line)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8. Name a samples_*.jsonl of lm-eval.") from error


def _sample(path: Path, count: int, line: str) -> dict[str, Any]:
    try:
        sample = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {count}: not JSON ({error}). Was the log cut off?") from error
    if not isinstance(sample, dict) or any(key not in sample for key in NEEDED):
        raise DataError(f"{path}, line {count}: no sample of lm-eval; it needs {' and '.join(NEEDED)}.")
    named = isinstance(sample["metrics"], list) and all(isinstance(name, str) for name in sample["metrics"])
    if not isinstance(sample["doc_hash"], str) or not named:
        raise DataError(f"{path}, line {count}: doc_hash must be a text and metrics a list of names.")
    return sample


def _directions(path: Path) -> Mapping[str, bool]:
    """What the results beside the samples say of this task: metric -> whether higher is better."""
    match = NAME.fullmatch(path.stem)
    results = path.with_name(f"results_{match['date']}.json") if match and match["date"] else None
    if results is None or not results.is_file():
        return {}
    try:
        found = json.loads(results.read_text(encoding="utf-8")).get("higher_is_better", {}).get(task(path), {})
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{results}: not the results of lm-eval ({error}).") from error
    return found if isinstance(found, dict) else {}


def _is_lower(name: str, better: Mapping[str, bool]) -> bool:
    metric = name.partition(",")[0]
    said = better.get(metric)
    return said is False if said is not None else bool(LOWER.search(metric))
