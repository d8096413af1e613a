"""Settings of the influence stage. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from preftrace.config import Config
from preftrace.registry import BASELINES, METHODS, Registry


class AttributeConfig(Config):
    """How influence is computed."""

    SPEED: ClassVar[frozenset[str]] = frozenset({"batch_tokens", "cache_gb", "store"})

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
    mode: Literal["streaming", "store"] = Field(
        "streaming",
        description="streaming: passes over the pairs, no gradient kept; store: one pass writes projected gradients to "
        "disk, from which every method and later query is computed without the model",
    )
    store: Path | None = Field(
        None, description="folder of the store, which must be of this model, pairs and loss (beside the scores)"
    )
    projection: int = Field(16, ge=0, description="longest side of a stored gradient; 0: whole gradients")
    store_dtype: Literal["float32", "bf16", "int8"] = Field("bf16", description="of a stored gradient")
    layers: tuple[str, ...] = Field(
        (),
        description="layers that influence looks at: numbers (7), ranges (4-9), the last four (-4:), head, or globs on "
        "module names (*self_attn*); none: all",
    )
    pilot: int | None = Field(
        1024,
        ge=1,
        description="beyond twice as many pairs, so many (drawn) give lambda, which saves a pass; null: all pairs do",
    )
    sides: bool = Field(
        False, description="scores of the chosen and of the rejected answer apart too, which takes one more pass"
    )
    show_tokens: int = Field(
        3,
        ge=0,
        description="pairs at each end of each vertical and method whose tokens get their parts of the score, for the "
        "report; 0: none",
    )
    damping: float | None = Field(
        None,
        gt=0,
        description="lambda of a matrix as a share of its mean squared gradient entry (datainf) or eigenvalue (exact, "
        "ekfac); none: each method's own default",
    )
    batch_tokens: int = Field(768, ge=1, description="padded tokens in one forward and backward pass")
    cache_gb: float = Field(
        8.0, ge=0, description="keep pair gradients on disk while the stage runs if they all fit in this; 0: recompute"
    )

    @property
    def looks_back(self) -> bool:
        """Whether the query compares with the stage before."""
        return self.query in ("margin", "paper")

    @field_validator("layers", mode="before")
    @classmethod
    def _layers(cls, layers: object) -> object:
        """A number is YAML's way of writing a layer, and one pattern needs no list."""
        several = layers if isinstance(layers, list | tuple) else [layers]
        return tuple(str(layer) if isinstance(layer, int) else layer for layer in several)

    @field_validator("methods")
    @classmethod
    def _methods(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        return _known(methods, METHODS, "method")

    @model_validator(mode="after")
    def _can_stream(self) -> Self:
        held = [name for name in self.methods if not streams(name)]
        if self.mode == "streaming" and held:
            raise ValueError(f"method '{held[0]}' works on stored gradients; set mode: store")
        return self

    @field_validator("baselines")
    @classmethod
    def _baselines(cls, baselines: tuple[str, ...]) -> tuple[str, ...]:
        return _known(baselines, BASELINES, "baseline")


def streams(method: str) -> bool:
    """Whether a method is a sum over pairs, which passes can form without holding their gradients."""
    module = METHODS.load(method)
    return hasattr(module, "combine") or getattr(module, "CHECKPOINTS", False)


def _known(names: tuple[str, ...], registry: Registry, word: str) -> tuple[str, ...]:
    unknown = [name for name in names if name not in registry.names()]
    if unknown:
        raise ValueError(f"unknown {registry.noun} '{unknown[0]}'; known: {', '.join(registry.names())}")
    if len(set(names)) < len(names):
        raise ValueError(f"a {word} is named twice")
    return names
