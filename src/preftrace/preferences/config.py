"""What a study says about its preference pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from preftrace.config import Config
from preftrace.errors import ConfigError
from preftrace.registry import SOURCES

FLAGS = ("malformed", "fork", "empty", "identical", "duplicate", "truncated")
"""What can be noticed about a pair, in the order in which a reason for dropping it is looked for."""

DropFlag = Literal["fork", "empty", "identical", "duplicate"]


class ColumnNames(Config):
    """The names of the three columns, for files that call them something else."""

    prompt: str = Field("prompt", description="column of what is answered")
    chosen: str = Field("chosen", description="column of the preferred answer")
    rejected: str = Field("rejected", description="column of the other answer")

    @classmethod
    def parse(cls, options: Sequence[str]) -> ColumnNames:
        """The names out of options such as `chosen=better`.

        Raises:
            ConfigError: an option of another form.
        """
        named = [option.partition("=")[::2] for option in options]
        if any(key not in cls.model_fields or not name for key, name in named):
            raise ConfigError([f"columns {' '.join(options)}: write prompt=NAME, chosen=NAME or rejected=NAME"])
        return cls(**dict(named))


class PreferencesConfig(Config):
    """Where the pairs come from, which are left out, and how many are held out."""

    source: str = Field("starter", description="format of the data: starter, hh, columns or messages")
    path: str | None = Field(None, description="a .jsonl, .json, .csv or .parquet file, a folder or a Hub id")
    limit: int | None = Field(None, ge=1, description="read the first so many rows only")
    holdout: float = Field(0.0, ge=0, lt=1, description="share of prompts whose pairs are not trained on")
    drop: tuple[DropFlag, ...] = Field(
        ("fork", "empty", "identical", "duplicate"),
        description="pairs with such a flag are left out; malformed ones always are",
    )
    plant: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training pairs whose answers are swapped, drawn by the study's seed and marked in "
        "meta, to see whether influence finds them",
    )
    columns: ColumnNames = Field(default_factory=ColumnNames, description="names of the columns, where they differ")
    name: str | None = Field(None, description="Hub or folder: the configuration's name")
    data_dir: str | None = Field(None, description="Hub or folder: the sub-folder, such as harmless-base")
    split: str = Field("train", description="Hub or folder: the split")
    revision: str | None = Field(None, description="Hub: branch, tag or commit")

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        if source not in SOURCES.names():
            raise ValueError(f"unknown preference source '{source}'; known: {', '.join(SOURCES.names())}")
        return source

    @field_validator("drop")
    @classmethod
    def _ordered(cls, drop: tuple[DropFlag, ...]) -> tuple[DropFlag, ...]:
        return tuple(sorted(set(drop), key=FLAGS.index))

    @model_validator(mode="after")
    def _has_path(self) -> PreferencesConfig:
        if self.path is None and SOURCES.load(self.source).PACKAGED is None:
            raise ValueError(f"source '{self.source}' needs a path: a file, a folder or a Hub id")
        return self

    def identity(self) -> dict[str, Any]:
        """The settings without the path: what it holds is hashed, so a renamed file is the same file."""
        return {key: value for key, value in super().identity().items() if key != "path"}
