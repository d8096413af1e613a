"""Three columns of plain text: the prompt and two answers, as in static-hh and full-hh-rlhf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preftrace.preferences.config import PreferencesConfig
from preftrace.preferences.rows import Draft, rest, text

NEEDS = "columns prompt, chosen and rejected (or those that `columns` names), all plain text"
PACKAGED: str | None = None


def fits(row: Mapping[str, Any], config: PreferencesConfig) -> int:
    """Whether all three columns are there and hold text."""
    return 1 if all(isinstance(row.get(name), str) for name in _names(config)) else 0


def read(row: Mapping[str, Any], config: PreferencesConfig) -> Draft:
    """Take the prompt as it is, and the answers without white space at the ends."""
    names = _names(config)
    prompt, chosen, rejected = (text(row, name) for name in names)
    return Draft(prompt, chosen.strip(), rejected.strip(), meta=rest(row, names))


def _names(config: PreferencesConfig) -> tuple[str, str, str]:
    return config.columns.prompt, config.columns.chosen, config.columns.rejected
