"""Errors meant for the user: one message that says what is wrong, where, and what to do. Exit code 2."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """Something the user can mend; shown without a traceback."""


class ConfigError(UserError):
    """One or more faults in a study file or in options, all reported together."""

    def __init__(self, problems: Sequence[str], where: str = "") -> None:
        self.problems = tuple(problems)
        head = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}" + (
            f" in {where}" if where else ""
        )
        super().__init__("\n".join([f"{head}:", *(f"  - {p}" for p in self.problems)]))


class DataError(UserError):
    """A data file that is missing, unreadable or not in the stated format."""


class ModelError(UserError):
    """A model, tokenizer or adapter that cannot be found, loaded or used for what was asked."""


class ArtifactError(UserError):
    """A run folder that cannot be written, is in use, or is not what it should be."""
