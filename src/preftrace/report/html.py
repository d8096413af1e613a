"""From values to safe HTML: templates, the cleaning of foreign text, and numbers in words.

Everything that a template prints passes through `clean` and is then escaped, unless it is Markup made here.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from preftrace.progress import clean as clean

if TYPE_CHECKING:
    from jinja2 import Environment

MINUS = "\u2212"
CLIP = 280
"""Texts longer than this many characters are shown clipped, with the whole below."""
WORDS = {"sft": "SFT", "dpo": "DPO", "ppo": "PPO", "rloo": "RLOO", "base": "base", "reward": "reward model"}


def known(value: Any) -> bool:
    """Whether `value` is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number with `digits` decimals and a real minus sign, or n/a."""
    if value is None or not known(value):
        return "n/a"
    rounded = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(rounded) == 0:
        rounded = f"{0:.{digits}f}"
    return rounded.replace("-", MINUS)


def significant(value: float | None, digits: int = 3) -> str:
    """A number of any size with `digits` significant digits."""
    if value is None or not known(value):
        return "n/a"
    return f"{value:.{digits}g}".replace("-", MINUS)


def p_value(value: float | None) -> str:
    """A p value: three decimals, or < 0.001."""
    if value is None or not known(value):
        return "n/a"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """Both ends in words."""
    return f"{number(low, digits)} to {number(high, digits)}" if known(low) and known(high) else "n/a"


def measured(value: dict[str, Any], digits: int = 2) -> str:
    """A summary's `{value, low, high, n, missing}` in words: value, and what is missing where something is."""
    missing = value.get("missing") or 0
    shown = number(value.get("value"), digits)
    return f"{shown} ({missing} missing)" if missing else shown


def seconds(value: float | None) -> str:
    """A time as 12 s, 3 min 4 s or 2 h 5 min."""
    if value is None or not known(value):
        return "n/a"
    whole = round(value)
    if whole < 60:
        return f"{value:.1f} s" if value < 10 else f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def stage_name(stage: str) -> str:
    """A stage as it is called in a sentence."""
    return WORDS.get(stage, stage)


def title(name: str) -> str:
    """A name as it stands at the head of a line."""
    return name[:1].upper() + name[1:].replace("_", " ")


def plural(count: int, noun: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


@cache
def environment() -> Environment:
    """The templates of this room: autoescape, and an error for anything undefined."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    env = Environment(
        loader=PackageLoader("preftrace.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    helpers = (number, significant, p_value, interval, measured, seconds, stage_name, title, plural, known)
    env.globals.update({helper.__name__: helper for helper in helpers} | {"CLIP": CLIP})
    return env


def render(template: str, **values: Any) -> Markup:
    """A template of this room as HTML."""
    return Markup(environment().get_template(template).render(**values))
