"""Influence scores as a table and as the records that users hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from preftrace import artifacts
from preftrace.errors import ArtifactError
from preftrace.types import StageRecord

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class InfluenceScores:
    """The finished influence stage of one training stage.

    Score > 0: giving the pair more weight raises the vertical's trust (the pair helps). Score < 0: it harms. Unit:
    change of the query M_v for a unit change of the pair's weight in the sum of pair losses, times n.
    """

    record: StageRecord

    def frame(self) -> pd.DataFrame:
        """One row for each pair, vertical and method: score, rank (1 = helps most), z, effect_of_removal.

        With the setting `sides`, score_chosen and score_rejected too, which sum to the score.

        The baselines that `record.summary["baselines"]` names are among the methods. Their scores have the same sign,
        and units of their own, so that they have no effect of removal.
        """
        frame: pd.DataFrame = artifacts.read_table(self.record.folder / "scores.parquet").to_pandas()
        return frame

    def layers(self) -> pd.DataFrame:
        """Each layer's part of the scores: `contribution`, which sums to the score over the layers, and its `share`.

        Of more than 2,000 pairs only those at the two ends of each vertical and method are there.

        Raises:
            ArtifactError: the stage was made by a version that did not keep it.
        """
        path = self.record.folder / "layers.parquet"
        if not path.is_file():
            raise ArtifactError(f"{self.record.folder} has no {path.name}: it is of an older version. Attribute again.")
        frame: pd.DataFrame = artifacts.read_table(path).to_pandas()
        return frame

    def tokens(self) -> pd.DataFrame:
        """Each token's part of the score of the pairs that the report shows; the parts of a pair sum to its score.

        Columns: pair_id, vertical, method, side (prompt, chosen, rejected), position in that side, token, part.

        Raises:
            ArtifactError: the stage kept none (`show_tokens: 0`, or an earlier version).
        """
        path = self.record.folder / "tokens.parquet"
        if not path.is_file():
            raise ArtifactError(f"{self.record.folder} has no {path.name}: attribute again with show_tokens above 0.")
        frame: pd.DataFrame = artifacts.read_table(path).to_pandas()
        return frame

    def recovery(self) -> pd.DataFrame:
        """How well methods and baselines find planted pairs; empty where none is planted."""
        frame: pd.DataFrame = artifacts.read_table(self.record.folder / "recovery.parquet").to_pandas()
        return frame

    def top(self, vertical: str, n: int = 10, method: str | None = None, harmful: bool = True) -> pd.DataFrame:
        """The n pairs that harm a vertical most (or help it most), worst (best) first.

        Args:
            vertical: its name.
            n: how many.
            method: a method or a baseline; the last of the settings' methods where None.
            harmful: those that harm, else those that help.
        """
        frame = self.frame()
        chosen = frame[(frame.vertical == vertical) & (frame.method == (method or self.record.config["methods"][-1]))]
        return chosen.sort_values("score", ascending=harmful).head(n).reset_index(drop=True)


def scores_table(
    pair_ids: Sequence[str],
    stage: str,
    verticals: Sequence[str],
    scores: Mapping[str, np.ndarray],
    baselines: Collection[str] = (),
) -> pa.Table:
    """Scores `(n, Q)` of every method as rows, with rank, z and effect of removal (NaN for the baselines).

    z is (score - mean) / sd over the pairs: under a null that permutes the pairs, the score that lands on a pair has
    that mean and that standard deviation. It is NaN where all scores are alike.
    """
    import pyarrow as pa

    text = {name: pa.string() for name in ("pair_id", "stage", "vertical", "method")}
    numbers = {"score": pa.float64(), "rank": pa.int64(), "z": pa.float64(), "effect_of_removal": pa.float64()}
    schema = pa.schema(text | numbers)
    # By columns: a table of rows would be most of the memory that many pairs take.
    ids, n, tables = pa.array(pair_ids, pa.string()), len(pair_ids), [schema.empty_table()]
    for method, values in scores.items():
        for column, vertical in enumerate(verticals):
            score = np.asarray(values[:, column], np.float64)
            named = [pa.array([name] * n, pa.string()) for name in (stage, vertical, method)]
            rank = pa.array(ranks(score), pa.int64(), mask=np.isnan(score))
            removal = np.full(n, np.nan) if method in baselines else -score / n
            found = [ids, *named, pa.array(score), rank, pa.array(z_scores(score)), pa.array(removal)]
            tables.append(pa.Table.from_arrays(found, schema=schema))
    return pa.concat_tables(tables)


def ranks(score: np.ndarray) -> np.ndarray:
    """`(n,)` ranks, 1 for the highest score; ties keep the order of the pairs."""
    order = np.argsort(-score, kind="stable")
    rank = np.empty(len(score), dtype=np.int64)
    rank[order] = np.arange(1, len(score) + 1)
    return rank


def z_scores(score: np.ndarray) -> np.ndarray:
    """`(n,)` distance from the mean in standard deviations (ddof 1) of the scores there are; NaN where these are 0."""
    known = score[~np.isnan(score)]
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    return (score - known.mean()) / spread if spread > 0 else np.full(len(score), np.nan)
