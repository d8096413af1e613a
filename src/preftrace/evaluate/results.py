"""A finished evaluation as data frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preftrace import artifacts
from preftrace.errors import ArtifactError
from preftrace.types import StageRecord

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One vertical of one checkpoint."""

    record: StageRecord

    @classmethod
    def open(cls, folder: Path | str) -> Evaluation:
        """Read the evaluation in a folder.

        Raises:
            ArtifactError: the folder holds none.
        """
        record = artifacts.read_record(Path(folder))
        if record is None or record.kind != "evaluate":
            raise ArtifactError(f"{folder} holds no finished evaluation; name the folder of one vertical of one stage")
        return cls(record)

    @property
    def vertical(self) -> str:
        """Name of the vertical."""
        return str(self.record.config["vertical"])

    @property
    def trust(self) -> float:
        """Mean trust over items, in [0, 1], higher is better; NaN where missing."""
        value = self.record.summary["trust"]["value"]
        return float("nan") if value is None else float(value)

    def metrics(self) -> pd.DataFrame:
        """Trust and the vertical's own metrics: value, low, high, n, missing, label, better; indexed by name."""
        import pandas as pd

        trust: dict[str, Any] = {**self.record.summary["trust"], "label": "trust", "better": "higher"}
        table = pd.DataFrame.from_dict({"trust": trust, **self.record.summary["metrics"]}, orient="index")
        return table.astype({"value": float, "low": float, "high": float})

    def frame(self) -> pd.DataFrame:
        """One row for each generated answer."""
        return self._table("generations")

    def items(self) -> pd.DataFrame:
        """One row for each item: trust and one column for each metric."""
        return self._table("items")

    def options(self) -> pd.DataFrame:
        """One row for each option: its log-likelihood in nats."""
        return self._table("options")

    def _table(self, name: str) -> pd.DataFrame:
        frame: pd.DataFrame = artifacts.read_table(self.record.folder / f"{name}.parquet").to_pandas()
        return frame
