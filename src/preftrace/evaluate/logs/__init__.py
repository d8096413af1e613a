"""Evaluations that other harnesses wrote, read so that `compare` pairs them item by item.

`lm_eval --log_samples` writes `samples_TASK_DATE.jsonl`; Inspect writes `.eval` or `.json`. Both are read with the
standard library and pyarrow: neither harness needs to be installed. Each log becomes what an evaluation of ours is: a
record, and a table with one row for each item. Its *claim* is the measure that stands for the task, in its own name.
"""

from __future__ import annotations

from pathlib import Path

from preftrace.errors import DataError
from preftrace.evaluate.logs import inspect, lm_eval
from preftrace.evaluate.logs._log import Log

__all__ = ["Log", "find", "read"]
PATTERNS = (lm_eval.PATTERN, *inspect.PATTERNS)


def find(path: Path) -> dict[str, Path]:
    """The logs of a file, or of a folder and all below it: task -> file; nothing where there are none.

    Raises:
        DataError: two logs of one task, so that it is open which is meant.
    """
    if path.is_file():
        files = [path]
    else:
        files = sorted(p for pattern in PATTERNS for p in path.rglob(pattern) if p.is_file())
        files = [file for file in files if file.suffix != ".json" or inspect.looks_like(file)]
    found: dict[str, Path] = {}
    for file in files:
        task = lm_eval.task(file) if file.suffix == ".jsonl" else inspect.task(file)
        if task in found:
            raise DataError(
                f"{path} holds two logs of {task}: {found[task].name} and {file.name}. Name one of the files."
            )
        found[task] = file
    return found


def read(path: Path) -> Log:
    """The log in a file.

    Raises:
        DataError: it is not a log of lm-eval or Inspect, it is not finished, or it holds no sample with a score.
    """
    return lm_eval.read(path) if path.suffix == ".jsonl" else inspect.read(path)
