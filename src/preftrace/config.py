"""The base of every settings class: frozen, strict, JSON round-trip, and an identity that leaves out speed knobs."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field


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


class AdapterConfig(Config):
    """What is trained: low-rank adapters (LoRA, arXiv 2106.09685), or all weights."""

    method: Literal["lora", "full"] = Field(
        "lora", description="lora: train low-rank adapters; full: train all weights"
    )
    r: int = Field(8, ge=1, description="rank of the adapter")
    alpha: float = Field(16, gt=0, description="the adapter's output is scaled by alpha / r")
    targets: str | tuple[str, ...] = Field("all-linear", description="modules to adapt: all-linear, or their names")
