"""Finished influence stages as people look at them: found in a run, with the pairs' texts, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from preftrace import artifacts
from preftrace.attribute.scores import InfluenceScores
from preftrace.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    import pandas as pd

TEXTS = ("prompt", "chosen", "rejected")
LAYERS = "layers.parquet"
NO_SCORES = (".partial", ".replaced", ".store")
"""Ends of the names of what lies beside the scores of a run: unfinished stages, and stores."""


def find_scores(folder: Path, stage: str | None = None) -> InfluenceScores:
    """The influence that a folder holds.

    Args:
        folder: a run folder, or the folder of one influence stage.
        stage: the trained stage, for a run folder; may be left out where only one has influence.

    Raises:
        ArtifactError: there is none, or there are several and none is named.
    """
    record = artifacts.read_record(folder)
    if record is not None and record.kind == "attribute":
        return InfluenceScores(record)
    places = (path.parent for path in (folder / "attribute").glob(f"*/{artifacts.RECORD}"))
    found = {place.name: place for place in sorted(places) if not place.name.endswith(NO_SCORES)}
    if not found:
        raise ArtifactError(f"{folder} holds no influence. Name a run folder, or the folder of an influence stage.")
    named = stage or (next(iter(found)) if len(found) == 1 else None)
    if named not in found:
        what = f"no influence of '{stage}'" if stage else "influence of more than one stage"
        raise ArtifactError(f"{folder} holds {what}; name one with --stage: {', '.join(found)}.")
    record = artifacts.read_record(found[named])
    assert record is not None, f"{found[named]} was just listed"
    return InfluenceScores(record)


def verticals_of(scores: InfluenceScores, vertical: str | None) -> list[str]:
    """The named vertical, or all that were scored.

    Raises:
        ConfigError: it was not scored.
    """
    known = list(scores.record.summary["verticals"])
    if vertical is not None and vertical not in known:
        raise ConfigError([f"no influence on '{vertical}' in this run; known: {', '.join(known)}"])
    return known if vertical is None else [vertical]


def method_of(scores: InfluenceScores, method: str | None) -> str:
    """The named method or baseline, or the last of the settings' methods.

    Raises:
        ConfigError: nothing was scored by it.
    """
    summary = scores.record.summary
    known = [*summary["methods"], *summary.get("baselines", ())]
    if method is not None and method not in known:
        raise ConfigError([f"no scores by '{method}' in this run; known: {', '.join(known)}"])
    return summary["methods"][-1] if method is None else method


def with_texts(scores: InfluenceScores, frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with the prompt, chosen and rejected texts of its pairs; empty where the run's pairs are not there."""
    home = scores.record.folder.resolve()
    tables = [place / "pairs" / "pairs.parquet" for place in home.parents[:2]]
    table = next((path for path in tables if path.is_file()), None)
    if table is None:
        return frame.assign(**dict.fromkeys(TEXTS, ""))
    texts = artifacts.read_table(table).select(["id", *TEXTS]).to_pandas()
    both = frame.merge(texts, how="left", left_on="pair_id", right_on="id").drop(columns="id")
    return both.fillna(dict.fromkeys(TEXTS, ""))


def extremes(scores: InfluenceScores, vertical: str, n: int) -> pd.DataFrame:
    """The n pairs that helped and the n that harmed a vertical most, with their texts, helpful first."""
    import pandas as pd

    helped = scores.top(vertical, n, harmful=False)
    harmed = scores.top(vertical, n, harmful=True).iloc[::-1]
    return with_texts(scores, pd.concat([helped, harmed]).drop_duplicates("pair_id"))


def layer_shares(scores: InfluenceScores, vertical: str, method: str, pair: str | None = None) -> pd.DataFrame:
    """What each layer gives to the scores of one vertical by one method.

    Args:
        scores: a finished influence stage.
        vertical: its name.
        method: its name.
        pair: id of one pair; the mean over all pairs whose layers were kept where None.

    Returns:
        A row for each layer, in the order of the model: layer, contribution (adds up to the score), share (of the sum
        of the layers' absolute contributions, in [-1, 1]), size (mean absolute share, in [0, 1]), pairs.

    Raises:
        ArtifactError: the stage kept no layers.
        ConfigError: there are none of this vertical and method, or of this pair.
    """
    path = scores.record.folder / LAYERS
    if not path.is_file():
        again = (
            "it was made by an earlier version, or has no vertical with a direction; run `preftrace attribute` again"
        )
        raise ArtifactError(f"{scores.record.folder} has no {LAYERS}: {again}.")
    frame = artifacts.read_table(path).to_pandas()
    frame = frame[(frame.vertical == vertical) & (frame.method == method)]
    if frame.empty:
        raise ConfigError([f"no layers were kept of {vertical} by {method}"])
    if pair is not None:
        frame = frame[frame.pair_id == pair]
    if frame.empty:
        raise ConfigError([f"no layers were kept of pair '{pair}': those of the ends of each ranking are"])
    grouped = frame.assign(size=frame.share.abs()).groupby("layer", sort=False)
    columns = {"contribution": ("contribution", "mean"), "share": ("share", "mean"), "size": ("size", "mean")}
    table = grouped.agg(**columns, pairs=("pair_id", "count"))
    order = sorted(table.index, key=lambda layer: (not layer.isdigit(), int(layer) if layer.isdigit() else 0, layer))
    ordered: pd.DataFrame = table.loc[order].reset_index()
    return ordered
