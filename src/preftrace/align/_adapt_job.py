"""What one adaptation is made from: the models, the settings, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from preftrace import artifacts
from preftrace.config import AdapterConfig, Config
from preftrace.types import Pair


class AdaptConfig(Config):
    """Settings of `adapt`."""

    rank: int = Field(8, ge=1, description="rank of the adapter; alpha is the same, so that its scale is 1")
    targets: str | tuple[str, ...] = Field("all-linear", description="modules to adapt: all-linear, or their names")
    svd: Literal["exact", "random"] = Field(
        "exact", description="exact, or random: a randomised one, for matrices where exact takes too long"
    )
    seed: int = Field(0, ge=0, description="seed of the randomised svd; exact draws nothing")
    format: Literal["raw", "chat"] = Field("raw", description="prompt format of the comparison with the tuned model")
    limit: int = Field(16, ge=1, description="pairs whose answers are compared, from the first on")
    max_length: int = Field(512, ge=2, description="most tokens of a prompt and an answer that are compared")
    tolerance: float = Field(
        0.1, gt=0, description="warn where the mean error of log pi is more than this share of the change by tuning"
    )

    @property
    def adapter(self) -> AdapterConfig:
        """The adapter's settings: alpha = r."""
        return AdapterConfig(r=self.rank, alpha=self.rank, targets=self.targets)


@dataclass(frozen=True, slots=True)
class Job:
    """One adaptation: the models, the pairs to compare on, and where it goes."""

    base: str
    tuned: str
    pairs: Sequence[Pair]
    config: AdaptConfig
    work: Path
    final: Path


def write_table(path: Path, columns: Mapping[str, str], rows: list[dict[str, Any]]) -> None:
    """Write rows as Parquet; `columns` names each column's type in Arrow, so that no row is a table too."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])
    artifacts.write_table(path, pa.Table.from_pylist(rows, schema))
