"""Prompt strings that preftrace does not ship: those of the paper's scripts, from a file of the user's.

The file holds one mapping for each vertical, in YAML or JSON, of names to strings:

    toxicity:
      benign: "..."
    stereotypes:
      prompt: "... {statement} ..."

A string is used to the letter, white space at its ends included. A list of phrases is one string with a phrase a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from preftrace.errors import DataError

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


def read_prompts(path: str | None, vertical: str, keys: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The prompt strings of a vertical.

    Args:
        path: the file; None is an error that says what the file needs.
        vertical: whose strings are read.
        keys: name of each string that is needed -> the placeholders that it must hold, such as `statement` for
            `{statement}`; it may hold no others. Other braces are text.

    Returns:
        The strings by name, those of `keys` only.

    Raises:
        DataError: no file, not readable, or a string that is missing, not a text, or has other placeholders: all
            faults of the file together.
    """
    needed = ", ".join(name + "".join(f" with {{{p}}}" for p in found) for name, found in keys.items())
    if path is None:
        raise DataError(
            f"protocol paper of {vertical} asks with prompt strings that preftrace does not ship: name a YAML or "
            f"JSON file with prompts:. It needs, below '{vertical}': {needed}"
        )
    file = Path(path).expanduser()
    values = _read(file)
    own = values.get(vertical) if isinstance(values, dict) else None
    if not isinstance(own, dict):
        raise DataError(f"{file}: needs a mapping '{vertical}' with: {needed}")
    faults = [fault for name, found in keys.items() if (fault := _fault(own.get(name), found, f"{vertical}.{name}"))]
    if faults:
        raise DataError(f"{file}: {'; '.join(faults)}")
    return {name: own[name] for name in keys}


def fill(text: str, **values: str) -> str:
    """The text with its placeholders filled in; a value's own braces are left as they are."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def phrases(text: str) -> list[str]:
    """The phrases of a string that holds one a line; white space around a phrase is part of it."""
    return [line for line in text.split("\n") if line]


def read_preamble(path: str | None) -> str:
    """The text of a file, without white space at its ends, and a blank line after it; "" for no file.

    Raises:
        DataError: it cannot be read, or is blank.
    """
    if path is None:
        return ""
    file = Path(path).expanduser()
    text = _text(file, "preamble").strip()
    if not text:
        raise DataError(f"{file}: is blank. It is named by preamble: and is put before every question.")
    return f"{text}\n\n"


def _text(file: Path, setting: str) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}. It is named by {setting}:.") from error


def _read(file: Path) -> object:
    text = _text(file, "prompts")
    try:
        return json.loads(text) if file.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(f"{file}: not {'JSON' if file.suffix.lower() == '.json' else 'YAML'} ({error})") from error


def _fault(value: object, placeholders: Sequence[str], name: str) -> str:
    if value is None:
        return f"'{name}' is missing"
    if not isinstance(value, str) or not value.strip():
        return f"'{name}' must be a text that is not blank, and is {str(value)[:40]!r}"
    held = set(PLACEHOLDER.findall(value))
    lacking = [f"'{name}' lacks {{{p}}}" for p in placeholders if p not in held]
    unknown = [f"'{name}' has an unknown {{{p}}}" for p in sorted(held - set(placeholders))]
    return ", ".join(lacking + unknown)
