"""The embedded pairs: short questions written for this project, some with the worse answer planted as chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preftrace.preferences.config import PreferencesConfig
from preftrace.preferences.rows import Draft, RowError, describe, present, text
from preftrace.types import Message

NEEDS = "columns prompt, chosen and rejected (plain text) and meta (an object)"
PACKAGED: str | None = "starter/pairs.jsonl"


def fits(row: Mapping[str, Any], config: PreferencesConfig) -> int:
    """Whether the texts are there and a `meta` that says which pairs were planted."""
    meta = row.get("meta")
    texts = all(isinstance(row.get(name), str) for name in ("prompt", "chosen", "rejected"))
    return 4 if texts and isinstance(meta, Mapping) and "planted" in meta else 0


def read(row: Mapping[str, Any], config: PreferencesConfig) -> Draft:
    """Take the prompt as one user message."""
    prompt, chosen, rejected = (text(row, name).strip() for name in ("prompt", "chosen", "rejected"))
    meta = present(row, "meta")
    if not isinstance(meta, Mapping):
        raise RowError(f"column 'meta' holds {describe(meta)}, not an object")
    return Draft((Message("user", prompt),), chosen, rejected, meta=meta)
