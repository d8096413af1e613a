"""Settings said on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from preftrace.errors import ConfigError


def parse_options(options: Sequence[str], taken: Sequence[str] = ()) -> dict[str, Any]:
    """`["beta=0.2", "adapter.r=16"]` as `{"beta": 0.2, "adapter": {"r": 16}}`.

    Args:
        options: what was said with `--set`.
        taken: names that the command has an argument or an option of its own for.

    Raises:
        ConfigError: an option of another form.
    """
    import yaml

    parsed: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        head, _, inner = key.partition(".")
        if not equals or not head:
            raise ConfigError([f"--set {option}: write key=value, such as --set beta=0.2"])
        if head in taken:
            raise ConfigError([f"--set {option}: the command takes {head} itself; see its --help"])
        place = parsed.setdefault(head, {}) if inner else parsed
        if not isinstance(place, dict):
            raise ConfigError([f"--set {option}: {head} was set to {place!r} before, which has no parts"])
        try:
            place[inner or head] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError([f"--set {option}: the value is not YAML"]) from error
    return parsed
