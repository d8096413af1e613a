"""Fidelity of a finished stage's influence: train again on random subsets and without the extreme pairs, and compare.

The models that are trained again lie beside the results, each a finished stage of its own: a kill costs one of them at
most, and more subsets, other groups or other resamples train only what is new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from preftrace import artifacts, progress
from preftrace.attribute import fidelity
from preftrace.attribute.fidelity import Agreement
from preftrace.attribute.fidelity_config import FidelityConfig
from preftrace.attribute.fidelity_result import lds_table
from preftrace.engines import Resources, engine_of
from preftrace.errors import ConfigError, DataError
from preftrace.study.groups import Group, groups, removal_table
from preftrace.study.retrain import QUERY, TRUST, pairs_key
from preftrace.study.run import locked
from preftrace.study.target import Target, check, open_target
from preftrace.types import StageRecord

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 2
WORKER = "preftrace.study.retrain:RetrainWorker"
WHOLE = "all"
"""Key of the run's own model, which trained on all pairs."""


def validate_stage(
    run: Path,
    stage: str,
    out: Path | None = None,
    config: FidelityConfig | None = None,
    *,
    scores: Path | None = None,
    resources: Resources | None = None,
) -> StageRecord:
    """Hold the influence of a stage's pairs against training again, or return what is there already.

    Args:
        run: a run folder.
        stage: a trained stage whose influence is there.
        out: folder of the results, `RUN/validate/STAGE` where None; the models' numbers go beside it.
        config: settings.
        scores: folder of the influence, the run's own where None.
        resources: speed only.

    Raises:
        ArtifactError: no run, no such stage, no influence of it, or a run that was changed since.
        ConfigError: a method that the influence does not have.
        DataError: too few pairs for what is asked, or no vertical has scores.
    """
    config = config or FidelityConfig()
    target = open_target(run, stage, scores)
    check(target)
    plan = make_plan(target, config)
    place = out or target.run / "validate" / stage
    influence = artifacts.hash_json([target.influence.identity, target.influence.content])
    inputs = {"influence": influence, "source": target.record(f"align/{target.source}").identity}
    if config.metric:
        inputs["policy"] = target.record(f"align/{stage}").identity
    spec = artifacts.StageSpec("validate", f"validate/{stage}", VERSION, config.identity(), inputs)
    models = place.with_name(f"{place.name}-models")

    def make(work: Path) -> Mapping[str, Any]:
        models.mkdir(parents=True, exist_ok=True)
        with locked(models):
            return _make(plan, models, work, resources or Resources())

    return artifacts.run_stage(place, spec, make)


@dataclass(frozen=True)
class Plan:
    """What is to be trained again, and what for.

    Attributes:
        target: the stage.
        config: settings.
        pairs: ids of the n pairs that it trained on, in the order of the data.
        scores: method or baseline -> `(n, V)`.
        members: `(m, n)` the random subsets.
        groups: what is left out, and against what.
    """

    target: Target
    config: FidelityConfig
    pairs: list[str]
    scores: dict[str, np.ndarray]
    members: np.ndarray
    groups: list[Group]

    @cached_property
    def roles(self) -> list[tuple[dict[str, Any], np.ndarray]]:
        """Every set of pairs that is trained on, `(n,)` bool, and what it is for; one set may be for several things."""
        nothing = {"method": None, "vertical": None, "side": None}
        found = [({"kind": "subset", "number": i, **nothing}, row) for i, row in enumerate(self.members)]
        for group in self.groups:
            named = {"method": group.method, "vertical": group.vertical, "side": group.side}
            found.append(({"kind": "removal", "number": 0, **named}, self._without(group.left_out)))
            found += [
                ({"kind": "control", "number": i, **named}, self._without(left_out))
                for i, left_out in enumerate(group.controls)
            ]
        return found

    def key(self, members: np.ndarray) -> str:
        """Name of a set of pairs."""
        return pairs_key(self.ids(members))

    def ids(self, members: np.ndarray) -> list[str]:
        """Ids of a set of pairs, in the order of the data."""
        return [self.pairs[k] for k in np.flatnonzero(members)]

    def without(self, left_out: np.ndarray) -> str:
        """Name of the set of all pairs but those at these positions."""
        return self.key(self._without(left_out))

    def _without(self, left_out: np.ndarray) -> np.ndarray:
        members = np.ones(len(self.pairs), dtype=bool)
        members[left_out] = False
        return members


def make_plan(target: Target, config: FidelityConfig) -> Plan:
    """Draw the subsets and the groups.

    Raises:
        ConfigError: a method that the influence does not have.
        DataError: too few pairs, or no vertical has scores.
    """
    influence, verticals = target.influence, target.verticals
    if not verticals:
        notes = {name: query["note"] for name, query in influence.summary["queries"].items()}
        raise DataError(f"no vertical of {influence.folder} has scores to validate: {notes}.")
    rows = artifacts.read_table(influence.folder / "scores.parquet").to_pylist()
    pairs = list(dict.fromkeys(row["pair_id"] for row in rows))
    position = {pair: k for k, pair in enumerate(pairs)}
    scores = {row["method"]: np.full((len(pairs), len(verticals)), np.nan) for row in rows}
    for row in rows:
        if row["vertical"] in verticals:
            value = np.nan if row["score"] is None else row["score"]
            scores[row["method"]][position[row["pair_id"]], verticals.index(row["vertical"])] = value
    methods = config.removal_methods or (influence.config["methods"][-1],)
    unknown = [name for name in methods if name not in scores]
    if unknown:
        raise ConfigError([f"removal_methods: no scores by '{unknown[0]}'; known: {', '.join(scores)}"])
    count, size = config.removed(len(pairs)), round(config.fraction * len(pairs))
    if not 0 < size < len(pairs) or count >= len(pairs):
        raise DataError(
            f"{target.source} trained on {len(pairs)} pairs: too few to take {size}, or to leave out {count}."
        )
    members = fidelity.subsets(len(pairs), config.subsets, config.fraction, config.seed)
    chosen = {name: scores[name] for name in methods}
    found = groups(chosen, verticals, _lengths(target, pairs), count, config) if count else []
    return Plan(target, config, pairs, scores, members, found)


def _lengths(target: Target, pairs: Sequence[str]) -> np.ndarray:
    """Tokens of the answers of each pair that the loss looks at."""
    sides = ("chosen",) if target.influence.summary["loss"]["kind"] == "sft" else ("chosen", "rejected")
    tokens = artifacts.read_table(target.run / "align" / target.source / "tokens.parquet").to_pylist()
    found = {row["pair_id"]: sum(row[f"{side}_tokens"] for side in sides) for row in tokens}
    return np.array([found[pair] for pair in pairs])


class Measured(NamedTuple):
    """What the models that were trained again gave.

    Attributes:
        parts: set of pairs -> (vertical, measure) -> item -> its part.
        clusters: (vertical, measure, item) -> the item's cluster.
    """

    parts: dict[str, dict[tuple[str, str], dict[str, float]]]
    clusters: dict[tuple[str, str, str], str]

    def value(self, key: str, vertical: str, measure: str) -> float:
        """The measure: the sum of the parts of its items."""
        found = self.parts[key].get((vertical, measure))
        return sum(found.values()) if found else float("nan")


def _make(plan: Plan, models: Path, work: Path, resources: Resources) -> dict[str, Any]:
    measured = _measure(plan, models, work, resources)
    verticals = plan.target.verticals
    baselines = list(plan.target.influence.summary.get("baselines", ()))
    found = _agreements(plan, measured, verticals)
    artifacts.write_table(work / "lds.parquet", lds_table(found, verticals, baselines, len(plan.members)))
    artifacts.write_table(work / "removal.parquet", removal_table(plan, measured))
    artifacts.write_table(work / "subsets.parquet", _subsets_table(plan))
    artifacts.write_table(work / "values.parquet", _values_table(measured))
    recovery = plan.target.influence.folder / "recovery.parquet"
    artifacts.write_table(work / "recovery.parquet", artifacts.read_table(recovery))
    best = fidelity.contest(found[QUERY], baselines) if found else None
    return {
        "stage": plan.target.stage,
        "trained_again": plan.target.source,
        "pairs": len(plan.pairs),
        "subsets": len(plan.members),
        "models": len(measured.parts) - 1,
        "verticals": verticals,
        "baselines": baselines,
        "contest": best._asdict() if best else None,
        "verdict": best.words() if best else "",
    }


def _measure(plan: Plan, models: Path, work: Path, resources: Resources) -> Measured:
    """Train on every set of pairs once; those that were trained on before are read."""
    target = plan.target
    sets: dict[str, list[str] | None] = {WHOLE: None}
    sets |= {plan.key(members): plan.ids(members) for _, members in plan.roles}
    init: dict[str, Any] = {"run": str(target.run), "stage": target.stage, "scores": str(target.influence.folder)}
    init |= {"metric": plan.config.metric, "out": str(models)}
    label = f"train {target.source} again"
    progress.say(f"{label}: {len(sets) - 1} models")
    shards = [{"pairs": pairs} for pairs in sets.values()]
    folders = engine_of(resources).map_shards(WORKER, init, shards, work / "_shards", resources, label)
    measured = Measured({key: {} for key in sets}, {})
    for key, folder in zip(sets, folders, strict=True):
        for row in artifacts.read_table(folder / "values.parquet").to_pylist():
            place = row["vertical"], row["measure"]
            measured.parts[key].setdefault(place, {})[row["item_id"]] = row["value"]
            measured.clusters[(*place, row["item_id"])] = row["cluster"]
    return measured


def _agreements(plan: Plan, measured: Measured, verticals: Sequence[str]) -> dict[str, dict[str, Agreement]]:
    """Measure -> method -> LDS; empty where there are no subsets."""
    if not len(plan.members):
        return {}
    draws = fidelity.resample(len(plan.members), plan.config.resamples, plan.config.seed)
    keys = [plan.key(members) for members in plan.members]
    found = {}
    for measure in (QUERY, TRUST) if plan.config.metric else (QUERY,):
        actual = np.array([[measured.value(key, vertical, measure) for vertical in verticals] for key in keys])
        found[measure] = {
            method: fidelity.agreement(fidelity.predictions(plan.members, scores), actual, draws)
            for method, scores in plan.scores.items()
        }
    return found


def _subsets_table(plan: Plan) -> pa.Table:
    """What was trained on and why: one row for each role of each set."""
    import pyarrow as pa

    rows = [
        role
        | {"subset": plan.key(members), "pairs": int(members.sum())}
        | {"left_out": [plan.pairs[k] for k in np.flatnonzero(~members)]}
        for role, members in plan.roles
    ]
    text = {name: pa.string() for name in ("kind", "method", "vertical", "side", "subset")}
    numbers = {"number": pa.int64(), "pairs": pa.int64(), "left_out": pa.list_(pa.string())}
    return pa.Table.from_pylist(rows, schema=pa.schema(text | numbers))


def _values_table(measured: Measured) -> pa.Table:
    """Every measure at every model."""
    import pyarrow as pa

    rows = [
        {"subset": key, "vertical": vertical, "measure": measure, "value": measured.value(key, vertical, measure)}
        for key, found in measured.parts.items()
        for vertical, measure in found
    ]
    text = [(name, pa.string()) for name in ("subset", "vertical", "measure")]
    return pa.Table.from_pylist(rows, schema=pa.schema([*text, ("value", pa.float64())]))
