"""Chat messages: lists of `{"role", "content"}`, as UltraFeedback, Skywork, Tulu and TRL have them.

Read are: a list of messages in the prompt, and answers that are message lists or plain text; a prompt of plain text
with answers that are message lists; and whole conversations in chosen and rejected, whose common beginning is the
prompt (a prompt of plain text beside them repeats a message and is left alone).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from preftrace.preferences.config import PreferencesConfig
from preftrace.preferences.rows import Draft, RowError, describe, present, rest
from preftrace.preferences.turns import split
from preftrace.types import Message, Role

NEEDS = "columns chosen and rejected (prompt may be there too), each a list of {role, content} messages"
PACKAGED: str | None = None
ROLES: tuple[Role, ...] = get_args(Role)


def fits(row: Mapping[str, Any], config: PreferencesConfig) -> int:
    """Whether both answers are lists of objects, or text that answers a list of messages."""
    names = config.columns
    answers = [row.get(names.chosen), row.get(names.rejected)]
    listed = _is_chat(row.get(names.prompt))
    return 2 if all(_is_chat(value) or (listed and isinstance(value, str)) for value in answers) else 0


def read(row: Mapping[str, Any], config: PreferencesConfig) -> Draft:
    """Put prompt and answers together as two conversations and split them by turns."""
    names = config.columns
    chosen, rejected = (_answer(row, name, config) for name in (names.chosen, names.rejected))
    before = _messages(row, names.prompt, "user") if row.get(names.prompt) is not None else ()
    whole = any(turn.role != "assistant" for turn in (*chosen[:1], *rejected[:1]))
    if whole and isinstance(row.get(names.prompt), str):
        before = ()
    meta = rest(row, (names.prompt, names.chosen, names.rejected))
    return split(_after(before, chosen), _after(before, rejected))._replace(meta=meta)


def _answer(row: Mapping[str, Any], column: str, config: PreferencesConfig) -> tuple[Message, ...]:
    if isinstance(row.get(column), str) and not isinstance(row.get(config.columns.prompt), list):
        raise RowError(f"column '{column}' holds text, not a list of messages")
    return _messages(row, column, "assistant")


def _messages(row: Mapping[str, Any], column: str, speaker: Role) -> tuple[Message, ...]:
    value = present(row, column)
    if isinstance(value, str):
        return (Message(speaker, value.strip()),)
    if not isinstance(value, list):
        raise RowError(f"column '{column}' holds {describe(value)}, not a list of messages")
    return tuple(_message(turn, f"column '{column}', message {n}") for n, turn in enumerate(value))


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, Mapping) or "role" not in turn or "content" not in turn:
        raise RowError(f"{where} is not an object with role and content")
    if turn["role"] not in ROLES:
        raise RowError(f"{where} has the role {turn['role']!r}; roles are {', '.join(ROLES)}")
    if not isinstance(turn["content"], str):
        raise RowError(f"{where} has {describe(turn['content'])} as content, not text")
    return Message(turn["role"], turn["content"].strip())


def _after(before: tuple[Message, ...], turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """`turns` behind `before`, unless they repeat it already."""
    return turns if turns[: len(before)] == before else before + turns


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(turn, Mapping) for turn in value)
