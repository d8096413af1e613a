"""Settings of the influence stage. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from preftrace.config import Config
from preftrace.registry import BASELINES, METHODS, Registry


class AttributeConfig(Config):
    """How influence is computed."""

    SPEED: ClassVar[frozenset[str]] = frozenset({"batch_tokens", "cache_gb"})

    methods: tuple[str, ...] = Field(("identity", "datainf"), min_length=1, description="influence methods, by name")
    baselines: tuple[str, ...] = Field(
        ("length", "random", "bm25"),
        description="simple scores beside the methods, by name; embedding and activation load the model once more",
    )
    activation_layer: int | None = Field(
        None, ge=0, description="layer that the activation baseline reads, 0 is the input embeddings (the middle one)"
    )
    query: Literal["metric", "log-odds", "margin", "paper"] = Field(
        "metric",
        description="metric: what a vertical's trust is made of, the log-odds of its good options or the score "
        "function of its sampled answers; log-odds: the options wherever there are any; margin: new answers against "
        "those of the stage before, weighed by the change of trust; paper: the same as the study's pairwise loss",
    )
    query_items: int | None = Field(None, ge=1, description="most items a vertical's query uses, a seeded draw (all)")
    damping: float = Field(0.1, gt=0, description="lambda of a block = damping x mean squared gradient entry")
    batch_tokens: int = Field(1024, ge=1, description="padded tokens in one forward and backward pass")
    cache_gb: float = Field(
        8.0, ge=0, description="keep pair gradients on disk while the stage runs if they all fit in this; 0: recompute"
    )

    @property
    def looks_back(self) -> bool:
        """Whether the query compares with the stage before."""
        return self.query in ("margin", "paper")

    @field_validator("methods")
    @classmethod
    def _methods(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        return _known(methods, METHODS, "method")

    @field_validator("baselines")
    @classmethod
    def _baselines(cls, baselines: tuple[str, ...]) -> tuple[str, ...]:
        return _known(baselines, BASELINES, "baseline")


def _known(names: tuple[str, ...], registry: Registry, word: str) -> tuple[str, ...]:
    unknown = [name for name in names if name not in registry.names()]
    if unknown:
        raise ValueError(f"unknown {registry.noun} '{unknown[0]}'; known: {', '.join(registry.names())}")
    if len(set(names)) < len(names):
        raise ValueError(f"a {word} is named twice")
    return names
