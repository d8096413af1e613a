"""Settings from plain values, as the API and the command line are given them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from preftrace import preferences
from preftrace.config import faults
from preftrace.errors import ConfigError
from preftrace.evaluate.base import VerticalConfig, configure
from preftrace.preferences import PreferencesConfig


def read_config(model: type[Any], options: Mapping[str, Any]) -> Any:
    """Settings of the class `model`.

    Raises:
        ConfigError: unknown keys or bad values, all together.
    """
    if not isinstance(options, Mapping):
        raise ConfigError([f"{model.__name__}: must be a mapping of settings, not {options!r}"])
    try:
        return model(**options)
    except ValidationError as error:
        raise ConfigError(list(map(str, faults(error, model)))) from error


def read_preferences(path: str | None, source: str | None, options: Mapping[str, Any]) -> PreferencesConfig:
    """Where pairs are read from.

    Args:
        path: file, folder or Hub id; None or `starter` for the starter's own pairs.
        source: format of the data; guessed from it where None.
        options: other fields of `PreferencesConfig`.

    Raises:
        ConfigError: unknown keys or bad values.
        DataError: the format cannot be guessed.
    """
    place = None if path == "starter" else path
    named = source or "starter"
    if source is None and place is not None:
        named, _ = preferences.read_guessed(PreferencesConfig(path=place, limit=1))
    settings: PreferencesConfig = read_config(PreferencesConfig, {**options, "source": named, "path": place})
    return settings


def read_verticals(asked: Mapping[str, Mapping[str, Any]]) -> dict[str, VerticalConfig]:
    """Settings of several verticals, by name.

    Raises:
        ConfigError: unknown names or keys, or bad values, of all of them together.
    """
    if not isinstance(asked, Mapping):
        raise ConfigError([f"verticals: must be a mapping of names to settings, not {asked!r}"])
    problems: list[str] = []
    found = {}
    for name, options in asked.items():
        try:
            if not isinstance(options, Mapping):
                raise ConfigError([f"must be a mapping of settings, not {options!r}"])
            found[name] = configure(name, options)
        except ConfigError as error:
            problems += [p if p.startswith("unknown vertical") else f"{name}: {p}" for p in error.problems]
    if problems:
        raise ConfigError(problems, "the options")
    return found
