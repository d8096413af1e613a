"""The base of every settings class: frozen, strict, JSON round-trip, and an identity that leaves out speed knobs."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Config(BaseModel):
    """Settings of one thing. A field's description is its help text, in docs and on the command line.

    Class attribute `SPEED` names the fields that can change how long the work takes but not its result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
    SPEED: ClassVar[frozenset[str]] = frozenset()

    def identity(self) -> dict[str, Any]:
        """The settings as JSON values, without the speed knobs (nested configs apply their own)."""
        dumped: dict[str, Any] = {}
        for name in type(self).model_fields:
            if name in self.SPEED:
                continue
            value = getattr(self, name)
            dumped[name] = value.identity() if isinstance(value, Config) else self.model_dump(mode="json")[name]
        return dumped


class Fault(NamedTuple):
    """What is wrong with a setting, and where it is: the keys that lead to it."""

    where: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (".".join(self.where), self.message)))


def faults(error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """What is wrong with the settings of a class, in words."""
    found = []
    for fault in error.errors():
        where = tuple(map(str, fault["loc"]))
        message = str(fault["msg"]).removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "unknown key" + (_known(where[0], model) if len(where) == 1 else "")
        elif fault["type"] == "missing":
            message = "is required"
        elif fault["type"] != "value_error":
            message += f", got {fault['input']!r}"
        found.append(Fault(where, message))
    return found


def _known(key: str, model: type[BaseModel]) -> str:
    names = sorted(f.alias or n for n, f in model.model_fields.items() if not f.exclude)
    meant = "".join(f"; did you mean {name}?" for name in get_close_matches(key, names, n=1))
    return f"; known: {', '.join(names)}{meant}"


class AdapterConfig(Config):
    """What is trained: low-rank adapters (LoRA, arXiv 2106.09685), or all weights."""

    method: Literal["lora", "full"] = Field(
        "lora", description="lora: train low-rank adapters; full: train all weights"
    )
    r: int = Field(8, ge=1, description="rank of the adapter")
    alpha: float = Field(16, gt=0, description="the adapter's output is scaled by alpha / r")
    targets: str | tuple[str, ...] = Field("all-linear", description="modules to adapt: all-linear, or their names")
