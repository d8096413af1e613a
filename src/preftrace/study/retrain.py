"""A stage of a finished run, trained again on some of its pairs, and what that does to its verticals' queries.

Each model is a stage of its own, so that a kill costs at most one of them (a training that was under way goes on from
its last save). It keeps its numbers and not its weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preftrace import artifacts, models, progress
from preftrace.align import run as train_stage
from preftrace.engines._base import Shard, ShardOutput
from preftrace.evaluate import run as evaluate_stage
from preftrace.preferences.stage import PAIRS
from preftrace.study.target import Target, open_target
from preftrace.types import StageRecord, text_id

if TYPE_CHECKING:
    import pyarrow as pa

    from preftrace.attribute.fidelity_value import QueryValues

VERSION = 1
VALUES = "values.parquet"
QUIET = {"report_to": "none", "keep_checkpoints": 0}
"""Settings of training that leave the model as it is and would only write what nobody looks at."""
QUERY, TRUST = "query", "trust"
"""What is measured: M_v, and the mean trust of the vertical's items."""


def pairs_key(pairs: Sequence[str]) -> str:
    """Name of a set of pairs: a hash of their ids, in order."""
    return text_id(*pairs)


class RetrainWorker:
    """Trains the stage again on sets of pairs: `values`, as `retrain` writes them.

    Args:
        run: as in `open_target`.
        stage: likewise.
        scores: likewise.
        metric: evaluate the verticals too.
        out: where the models' numbers are kept, a folder for each set of pairs.
    """

    def __init__(self, run: str, stage: str, scores: str, metric: bool, out: str) -> None:
        self.target, self.metric = open_target(Path(run), stage, Path(scores)), metric
        self.out = Path(out)
        self._queries: QueryValues | None = None

    def run(self, shard: Shard) -> ShardOutput:
        """One set: `pairs`, their ids in the order of the data; None is the run's own model."""
        self._queries = self._queries or self.target.queries()
        pairs = shard["pairs"]
        folder = self.out / ("all" if pairs is None else pairs_key(pairs))
        with progress.silent():
            record = retrain(self.target, self._queries, pairs, folder, self.metric)
        return {"values": artifacts.read_table(record.folder / VALUES)}


def retrain(
    target: Target, queries: QueryValues, pairs: Sequence[str] | None, out: Path, metric: bool = False
) -> StageRecord:
    """Train the stage again, from the same start with the same settings and seed, on some of its pairs.

    Args:
        target: the stage.
        queries: its queries.
        pairs: ids of the pairs, in the order of the data; None is the run's own model, which is not trained again.
        out: folder of `values.parquet`: vertical, measure, item_id, cluster, and the item's part of the measure.
        metric: also evaluate the verticals, for the measure `trust`. Where pairs act through a reward model the
            policy is trained again too, on all prompts.
    """
    settings: dict[str, Any] = {
        "stage": target.stage,
        "pairs": None if pairs is None else list(pairs),
        "metric": metric,
    }
    inputs = {"influence": target.influence.identity, "source": target.record(f"align/{target.source}").identity}
    if metric:
        inputs["policy"] = target.record(f"align/{target.stage}").identity
        settings["verticals"] = {name: target.study.verticals[name].identity() for name in target.verticals}
    spec = artifacts.StageSpec("retrain", f"{out.parent.name}/{out.name}", VERSION, settings, inputs)

    def make(work: Path) -> dict[str, Any]:
        names = dict.fromkeys([target.source, *([target.stage] if metric else [])])
        folders = {name: target.run / "align" / name for name in names}
        if pairs is not None:
            _train(target, pairs, work, folders)
        rows = _query_rows(target, queries, folders[target.source])
        if metric:
            rows += _trust_rows(target, None if pairs is None else folders[target.stage], work)
        artifacts.write_table(work / VALUES, _table(rows))
        return {"pairs": None if pairs is None else len(pairs)}

    return artifacts.run_stage(out, spec, make)


def _train(target: Target, pairs: Sequence[str], work: Path, folders: dict[str, Path]) -> None:
    """Train the stages that `folders` names, one after the other, and put their new folders there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    study = target.study
    table = artifacts.read_table(target.run / "pairs" / PAIRS)
    kept = pc.is_in(table["id"], value_set=pa.array(pairs, pa.string()))
    artifacts.write_table(work / "_pairs" / PAIRS, table.filter(pc.and_(kept, pc.equal(table["split"], "train"))))
    done: dict[str, Path] = {}
    for name in folders:
        places = {other: done.get(other, target.run / "align" / other) for other in study.stages}
        config = study.stages[name].located(places)
        config = config.model_copy(update={k: v for k, v in QUIET.items() if k in type(config).model_fields})
        train_stage(
            study.kinds[name],
            config,
            target.start(name),
            work / "_pairs" if name == target.source else target.run / "pairs",
            study.adapter,
            work / "_align" / name,
            format=study.format,
            seed=study.seed,
            inputs={"pairs": pairs_key(pairs), "checkpoint": target.record(f"align/{name}").inputs["checkpoint"]},
        )
        done[name] = work / "_align" / name
    folders.update(done)


def _query_rows(target: Target, queries: QueryValues, folder: Path) -> list[dict[str, Any]]:
    """Each item's part of its vertical's query, at the model of a stage."""
    clusters = {name: _clusters(target.evaluation(name)) for name in target.verticals}
    return [
        {
            "vertical": part.vertical,
            "measure": QUERY,
            "item_id": part.item_id,
            # A query of matched samples names them by item and number.
            "cluster": clusters[part.vertical].get(part.item_id)
            or clusters[part.vertical][part.item_id.rpartition("#")[0]],
            "value": part.value,
        }
        for part in queries.at(models.read_checkpoint(folder))
    ]


def _trust_rows(target: Target, folder: Path | None, work: Path) -> list[dict[str, Any]]:
    """Each item's part of its vertical's mean trust, at the model of a stage; None is the run's own evaluation."""
    rows = []
    for name in target.verticals:
        place = target.evaluation(name) if folder is None else work / "_evaluate" / name
        if folder is not None:
            checkpoint, study = models.read_checkpoint(folder), target.study
            evaluate_stage(
                checkpoint,
                name,
                study.verticals[name],
                place,
                format=study.format,
                seed=study.seed,
                precision=study.precision,
                backend=study.backend,
                model_hash=str(artifacts.read_json(folder / artifacts.RECORD)["content"]),
            )
        items = [i for i in artifacts.read_table(place / "items.parquet").to_pylist() if _known(i["trust"])]
        rows += [
            {"vertical": name, "measure": TRUST, "item_id": i["item_id"], "cluster": i["cluster"]}
            | {"value": i["trust"] / len(items)}
            for i in items
        ]
    return rows


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _clusters(evaluation: Path) -> dict[str, str]:
    """Item -> its cluster."""
    table = artifacts.read_table(evaluation / "items.parquet")
    return dict(zip(table["item_id"].to_pylist(), table["cluster"].to_pylist(), strict=True))


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    text = [(name, pa.string()) for name in ("vertical", "measure", "item_id", "cluster")]
    return pa.Table.from_pylist(list(rows), schema=pa.schema([*text, ("value", pa.float64())]))
