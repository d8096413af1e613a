r"""HH-RLHF transcripts (arXiv 2204.05862): `chosen` and `rejected` are whole dialogues.

Turns start at `\n\nHuman:` and `\n\nAssistant:`; text before the first of them is read as a system message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from preftrace.preferences.config import PreferencesConfig
from preftrace.preferences.rows import Draft, rest, text
from preftrace.preferences.turns import split
from preftrace.types import Message, Role

NEEDS = "columns chosen and rejected, each a '\\n\\nHuman: ... \\n\\nAssistant: ...' transcript"
PACKAGED: str | None = None
MARKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def fits(row: Mapping[str, Any], config: PreferencesConfig) -> int:
    """Whether both texts hold markers."""
    values = (row.get(config.columns.chosen), row.get(config.columns.rejected))
    return 3 if all(isinstance(value, str) and MARKER.search(value) for value in values) else 0


def read(row: Mapping[str, Any], config: PreferencesConfig) -> Draft:
    """Split two transcripts by turns."""
    names = config.columns
    chosen, rejected = text(row, names.chosen), text(row, names.rejected)
    return split(turns(chosen), turns(rejected))._replace(meta=rest(row, (names.chosen, names.rejected)))


def turns(transcript: str) -> tuple[Message, ...]:
    """The turns of a transcript, contents without white space at the ends."""
    before, *parts = MARKER.split(transcript)
    system = (Message("system", before.strip()),) if before.strip() else ()
    spoken = zip(parts[::2], parts[1::2], strict=True)
    return system + tuple(Message(ROLES[speaker], content.strip()) for speaker, content in spoken)
