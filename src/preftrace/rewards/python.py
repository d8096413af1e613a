"""`python:FILE.py:FUNCTION` or `python:MODULE:FUNCTION`: a function of yours, `texts -> floats`.

It is called with a list of texts, each a prompt and the answer to it as a person reads them, and returns one number
for each, higher is better. If it takes an argument named `answers`, it gets the answers alone there.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from preftrace.errors import ConfigError
from preftrace.rewards import Answer, Reward
from preftrace.types import readable


def build(argument: str, format: str) -> Reward:
    """The function as a reward."""
    function, _ = _find(argument)
    takes_answers = "answers" in inspect.signature(function).parameters

    def reward(answers: Sequence[Answer]) -> list[float]:
        texts = [f"{readable(answer.prompt)} {answer.text}" for answer in answers]
        more = {"answers": [answer.text for answer in answers]} if takes_answers else {}
        return [float(value) for value in function(texts, **more)]

    return reward


def digest(argument: str) -> str:
    """Of the file that the function is in, and its name."""
    _, path = _find(argument)
    return hashlib.sha256(path.read_bytes() + argument.rpartition(":")[2].encode()).hexdigest()


def _find(argument: str) -> tuple[Callable[..., Sequence[Any]], Path]:
    where, _, name = argument.rpartition(":")
    try:
        module = _load_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
        return getattr(module, name), Path(str(module.__file__))
    except (ImportError, AttributeError, OSError, ValueError, SyntaxError) as error:
        raise ConfigError(
            [f"reward: cannot find 'python:{argument}' ({error}); write python:FILE.py:FUNCTION"]
        ) from error


def _load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"no file {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
