"""A run folder as objects and data frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from preftrace import artifacts
from preftrace.attribute.scores import InfluenceScores
from preftrace.errors import ArtifactError
from preftrace.evaluate.compare import Comparison, frame, load_comparisons
from preftrace.evaluate.results import Evaluation
from preftrace.preferences import load_pairs
from preftrace.types import Checkpoint, Pair, StageRecord

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """What a study left in its folder, finished or not.

    Args:
        folder: the run folder.

    Raises:
        ArtifactError: it is not one.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not (self.folder / "run.json").is_file():
            raise ArtifactError(f"{folder} is not a run folder: it has no run.json. Name the folder that a study made.")

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    def records(self) -> dict[str, StageRecord]:
        """Every finished step by name, such as `align/dpo` or `evaluate/base/privacy`."""
        found = {}
        for path in sorted(self.folder.rglob(artifacts.RECORD)):
            name = path.parent.relative_to(self.folder).as_posix()
            record = None if ".partial" in name or ".replaced" in name else artifacts.read_record(path.parent)
            if record is not None:
                found[name] = record
        return found

    def pairs(self) -> list[Pair]:
        """The pairs that were kept."""
        return load_pairs(self.folder / "pairs")

    def checkpoint(self, stage: str) -> Checkpoint:
        """The model that a stage made."""
        from preftrace import models

        return models.read_checkpoint(self.folder / "align" / stage)

    def curves(self, stage: str) -> pd.DataFrame:
        """A stage's training curves, one row for each logged step."""
        curves: pd.DataFrame = artifacts.read_table(self.folder / "align" / stage / "curves.parquet").to_pandas()
        return curves

    def evaluation(self, stage: str, vertical: str) -> Evaluation:
        """One vertical of one stage; `base` is the model before training."""
        return Evaluation.open(self.folder / "evaluate" / stage / vertical)

    def comparisons(self) -> list[Comparison]:
        """Every two stages on every vertical."""
        return load_comparisons(self.folder / "compare")

    def comparison_frame(self) -> pd.DataFrame:
        """The same as a data frame."""
        return frame(self.comparisons())

    def influence(self, stage: str) -> InfluenceScores:
        """The influence of every pair that a stage trained on."""
        record = artifacts.read_record(self.folder / "attribute" / stage)
        if record is None:
            raise ArtifactError(f"{self.folder} has no influence of a stage '{stage}'")
        return InfluenceScores(record)
