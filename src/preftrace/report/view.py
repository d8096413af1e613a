"""A run folder as the report reads it: records and tables, read when first asked for, absent where not made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from preftrace import artifacts
from preftrace.types import DECLARED, StageRecord

Row = dict[str, Any]
BASE = "base"
USUAL_ORDER = (BASE, "sft", "reward", "ppo", "rloo", "dpo")
PARTIAL = ".partial"


class RunView:
    """Read-only view of one run folder, finished or not.

    Args:
        path: the run folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[str, StageRecord | None] = {}
        self._tables: dict[str, list[Row]] = {}

    def record(self, folder: str) -> StageRecord | None:
        """The record of a finished stage such as `align/dpo`, or None."""
        if folder not in self._records:
            self._records[folder] = artifacts.read_record(self.path / folder)
        return self._records[folder]

    def table(self, file: str) -> list[Row]:
        """The rows of a Parquet file such as `compare/comparisons.parquet`; no rows where there is none.

        A null and a NaN both come as NaN in a column of floats.
        """
        if file not in self._tables:
            path = self.path / file
            self._tables[file] = _rows(path) if path.is_file() else []
        return self._tables[file]

    def _folders(self, parent: str) -> list[str]:
        """Names of the finished stages right below `parent`; a store of gradients is none of them."""
        found = (self.path / parent).glob(f"*/{artifacts.RECORD}")
        return sorted(p.parent.name for p in found if not p.parent.name.endswith((PARTIAL, ".replaced", ".store")))

    @cached_property
    def study_text(self) -> str:
        """The study as run, or ""."""
        path = self.path / "study.yaml"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    @cached_property
    def study(self) -> dict[str, Any]:
        """The study file's values; empty where there is none."""
        import yaml

        value = yaml.safe_load(self.study_text) if self.study_text else None
        return value if isinstance(value, dict) else {}

    @cached_property
    def machine(self) -> dict[str, Any]:
        """What run.json says of where it ran; empty where there is none."""
        path = self.path / "run.json"
        value = artifacts.read_json(path) if path.is_file() else {}
        return {key: value[key] for key in ("python", "platform", "cores", "git") if value.get(key) is not None}

    @cached_property
    def title(self) -> str:
        """The study's name, or the folder's."""
        return str(self.study.get("name") or self.path.resolve().name)

    @cached_property
    def stages(self) -> list[str]:
        """Every stage that is planned or there, in the order in which they build on one another."""
        compared = self.record("compare")
        order = list(compared.config.get("stages", ())) if compared else []
        # A reward model is not compared: it stands behind the stage that it starts from.
        for stage in reversed([s for s in self._planned("stages") if order and s not in order]):
            parent = self._setting(stage, "from", "sft")
            order.insert(order.index(parent) + 1 if parent in order else len(order), stage)
        order += [BASE, *self._planned("stages"), *USUAL_ORDER]
        known = {p.name for p in (self.path / "evaluate").glob("*") if p.is_dir()}
        known = known.union(self._folders("align"), self._folders("attribute"))
        if planned := self._planned("stages"):
            # What a stage that the study no longer has left behind is not part of this study's report.
            known = (known & {BASE}).union(planned)
        return [s for s in dict.fromkeys([*order, *sorted(known)]) if s in known]

    @cached_property
    def evaluations(self) -> dict[str, dict[str, StageRecord]]:
        """Vertical -> stage -> record, of the finished ones, stages in order."""
        found: dict[str, dict[str, StageRecord]] = {}
        for stage in self.stages:
            for vertical in self._folders(f"evaluate/{stage}"):
                if vertical not in (self._planned("verticals") or [vertical]):
                    continue
                record = self.record(f"evaluate/{stage}/{vertical}")
                if record is not None:
                    found.setdefault(vertical, {})[stage] = record
        return {vertical: found[vertical] for vertical in sorted(found)}

    @cached_property
    def comparisons(self) -> list[Row]:
        """The rows of the comparison; none where it is not made yet."""
        return self.table("compare/comparisons.parquet")

    def comparison(self, vertical: str, a: str, b: str, measure: str = "trust") -> Row | None:
        """One of them."""
        key = (vertical, a, b, measure)
        return next((r for r in self.comparisons if (r["vertical"], r["a"], r["b"], r["measure"]) == key), None)

    @cached_property
    def trained(self) -> dict[str, StageRecord]:
        """Stage -> record of its training, in order."""
        records = {stage: self.record(f"align/{stage}") for stage in self.stages}
        return {stage: record for stage, record in records.items() if record is not None}

    @cached_property
    def attributed(self) -> dict[str, StageRecord]:
        """Stage -> record of its influence scores, in order."""
        records = {stage: self.record(f"attribute/{stage}") for stage in self.stages}
        return {stage: record for stage, record in records.items() if record is not None}

    @cached_property
    def pairs(self) -> dict[str, Row]:
        """Pair id -> row of pairs.parquet."""
        return {row["id"]: row for row in self.table("pairs/pairs.parquet")}

    @cached_property
    def records(self) -> list[StageRecord]:
        """Every finished stage, in the order of the work."""
        candidates = [self.record("pairs"), *self.trained.values()]
        candidates += [record for by_stage in self.evaluations.values() for record in by_stage.values()]
        candidates += [self.record("compare"), *self.attributed.values()]
        return [record for record in candidates if record is not None]

    @cached_property
    def missing(self) -> list[str]:
        """What a whole run of the study would have and this one has not (yet)."""
        planned = self._planned("stages")
        verticals = self._planned("verticals") or list(self.evaluations)
        lacking = [] if self.record("pairs") else ["pairs"]
        lacking += [f"align/{stage}" for stage in planned if stage not in self.trained]
        policies = [s for s in planned if self._kind(s) != "reward"]
        for stage in [s for s in self.stages if s == BASE or s in policies or not planned]:
            lacking += [f"evaluate/{stage}/{v}" for v in verticals if stage not in self.evaluations.get(v, {})]
        # A training that a user declares belongs to no study: nothing is compared.
        declared = any(record.kind == DECLARED for record in self.trained.values())
        lacking += [] if self.record("compare") or declared else ["compare"]
        attribute = self.study.get("attribute")
        rewards = [s for s in planned if self._kind(s) == "reward"]
        settings = self.study.get("stages", {})
        scored = [
            s
            for s in planned
            if self._kind(s) in ("sft", "dpo") or (settings[s] or {}).get("reward", "none") in rewards
        ]
        wanted = (attribute.get("stages") or scored) if isinstance(attribute, dict) else ()
        return lacking + [f"attribute/{stage}" for stage in wanted if stage not in self.attributed]

    @cached_property
    def unfinished(self) -> list[str]:
        """Stages that were begun and not finished."""
        found = [p.relative_to(self.path).as_posix() for p in self.path.rglob(f"*{PARTIAL}") if p.is_dir()]
        return sorted(name.removesuffix(PARTIAL) for name in found)

    def _kind(self, stage: str) -> str:
        """What kind of training a planned stage is."""
        return self._setting(stage, "kind", stage)

    def _setting(self, stage: str, key: str, default: str) -> str:
        stages = self.study["stages"]
        settings = stages[stage] if isinstance(stages, dict) else None
        return str(settings.get(key, default)) if isinstance(settings, dict) else default

    def _planned(self, part: str) -> list[str]:
        value = self.study.get(part)
        return [str(key) for key in value] if isinstance(value, dict | list) else []


def _rows(path: Path) -> list[Row]:
    import pyarrow as pa

    table = artifacts.read_table(path)
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    rows: list[Row] = table.to_pylist()
    for row in rows:
        row.update({name: math.nan for name in floats if row[name] is None})
    return rows


def pick(rows: Sequence[Row], **where: Any) -> list[Row]:
    """The rows whose fields have these values."""
    return [row for row in rows if all(row[key] == value for key, value in where.items())]
