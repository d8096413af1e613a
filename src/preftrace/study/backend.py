"""What a study's `backend` must fit: a server is given no weights, so that each stage needs a name of its own there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from preftrace.errors import ConfigError
from preftrace.evaluate.backend import load

if TYPE_CHECKING:
    from preftrace.study.config import StudyConfig


def backend_problems(study: StudyConfig) -> list[tuple[tuple[str, ...], str]]:
    """What a study asks of its backend that it cannot do: the place of each fault, and words for it."""
    backend = study.backend
    problems: list[tuple[tuple[str, ...], str]] = []
    if load(backend.name).LOCAL:
        return problems
    if "{stage}" not in getattr(backend, "model", ""):
        words = (
            "must hold {stage}, such as NAME-{stage}: a study evaluates base and every trained stage, each a model of "
            "its own that you serve under its own name"
        )
        problems.append((("backend", "model"), words))
    if study.attribute is not None:
        problems.append((("attribute",), f"{_no_influence(study)}; write attribute: null"))
    return problems


def check_influence(study: StudyConfig) -> None:
    """Whether influence can be computed from a study's evaluations.

    Raises:
        ConfigError: they were made by a server.
    """
    if not load(study.backend.name).LOCAL:
        raise ConfigError([_no_influence(study)])


def _no_influence(study: StudyConfig) -> str:
    return f"influence reads the answers' tokens, which backend {study.backend.name} does not tell"
