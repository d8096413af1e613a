"""Score stored answers again, by another scorer or where a score is missing: nothing is generated.

The result is the evaluation that the model would have with that scorer: the same tables, record and identity as if it
had been evaluated so, and every command takes it as one. What the scorer that is asked for has scored already is taken
over, so that only texts without a score cost anything.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from preftrace import artifacts, progress
from preftrace.artifacts import StageSpec
from preftrace.errors import ArtifactError, DataError
from preftrace.evaluate import rows, scoring
from preftrace.evaluate.base import Vertical, has_scorer, load
from preftrace.evaluate.results import Evaluation
from preftrace.evaluate.runner import VERSION, finish
from preftrace.evaluate.scoring import Scorer
from preftrace.types import Item, Option, StageRecord, prompt_from_json

PLACES = ("", "*/", "*/*/", "evaluate/*/*/")
"""Where evaluations may lie below what the user names: one vertical, a stage, a folder of stages, a run."""


class Rescored(NamedTuple):
    """One evaluation and where its new scores go."""

    old: StageRecord
    target: Path


def rescore(
    found: str | Path, scorer: str, out: str | Path | None = None, *, replace: bool = False
) -> list[Evaluation]:
    """Score the answers of evaluations again; nothing is generated.

    Args:
        found: a run, a folder of evaluations, or one evaluation.
        scorer: its spec, such as `hf:MODEL`.
        out: results go to `<out>/<stage>/<vertical>`; to `rescore/<scorer>` beside the evaluations where None, or in
            their place where `replace` is set.
        replace: write over another result that is where the new one goes, and ask again for what a result of the
            same scorer lacks.

    Returns:
        The evaluations with their new scores, in the order of the folders.

    Raises:
        ConfigError: the spec names no scorer, or the scorer lacks a key.
        DataError: there is no evaluation that a scorer is part of, or an answer is not stored whole.
        ArtifactError: another result is where one would go, and `replace` is not set.
    """
    scores = scoring.build(scorer)
    place = None if out is None else Path(out)
    work = [Rescored(old, _target(old.folder, scores, place, replace)) for old in _evaluations(Path(found))]
    specs = [_spec(one.old, scorer, scores) for one in work]
    for one, made in zip(work, specs, strict=True):
        _check(one, made, scores, replace)
    scoring.ready(scores)
    return [Evaluation(_rescore(one, made, scores, replace)) for one, made in zip(work, specs, strict=True)]


def _evaluations(found: Path) -> list[StageRecord]:
    """The finished evaluations below a folder whose vertical uses a scorer."""
    folder = found.resolve()
    paths = {path.parent for place in PLACES for path in folder.glob(f"{place}{artifacts.RECORD}")}
    whole = [path for path in sorted(paths) if not path.name.startswith(".") and not path.name.endswith(".partial")]
    records = [record for record in map(artifacts.read_record, whole) if record and record.kind == "evaluate"]
    scored = [record for record in records if has_scorer(load(str(record.config["vertical"])))]
    if not scored:
        what = f"{len(records)} evaluations, none of which has a scorer" if records else "no finished evaluation"
        raise DataError(f"{found} holds {what}. Name a run, or an evaluation of a vertical such as toxicity.")
    return scored


def _target(folder: Path, scorer: Scorer, out: Path | None, replace: bool) -> Path:
    if out is None and replace:
        return folder
    home = folder.parents[1]
    if out is None:
        beside = home.parent if home.parent.name == "rescore" else home.with_name("rescore")
        out = beside / re.sub(r"[^A-Za-z0-9._-]+", "-", scorer.name)[:80]
    return out.resolve() / folder.parent.name / folder.name


def _spec(old: StageRecord, spec: str, scorer: Scorer) -> StageSpec:
    """What the evaluation would be made from with this scorer."""
    settings = {**old.config, "options": {**old.config["options"], "scorer": spec}}
    now = [VERSION, load(str(old.config["vertical"])).VERSION]
    if now != [old.version, old.config["vertical_version"]]:
        # Asked as the old versions asked, judged and summed up as the new ones do: neither's own result.
        settings["judged_by_versions"] = now
    return StageSpec(old.kind, old.name, old.version, settings, {**old.inputs, "scorer": scorer.revision})


def _check(one: Rescored, made: StageSpec, scorer: Scorer, replace: bool) -> None:
    """Raise where the new result would take the place of another one that may not be written over."""
    there = artifacts.read_record(one.target)
    if there is None or replace:
        return
    if there.identity != made.identity:
        raise ArtifactError(
            f"{one.target} holds another result; nothing was written. Name another folder with --out, or write over "
            "it with --replace."
        )
    if lacking := there.summary["unscored"]:
        progress.say(
            f"{one.target} has the scores of '{scorer.name}' already, {lacking:,} of them missing: "
            "--replace asks for those again"
        )


def _rescore(one: Rescored, made: StageSpec, scorer: Scorer, replace: bool) -> StageRecord:
    module, old = load(str(one.old.config["vertical"])), one.old
    sources = [record for record in (old, artifacts.read_record(one.target)) if record is not None]
    known: dict[str, float] = {}
    answered: set[str] = set()
    for record in sources:
        named = record.summary.get("scorer") or {}
        if (named.get("name"), named.get("revision")) == (scorer.name, scorer.revision):
            known |= _scores(record.folder)
            answered |= set(named.get("versions", ()))

    def make(work: Path) -> Mapping[str, Any]:
        summary = finish(module, read_answers(module, old), scorer, int(old.config["seed"]), work, known)
        versions = sorted(answered | set(summary["scorer"].get("versions", ())))
        summary["scorer"] |= {"versions": versions} if versions else {}
        return {**old.summary, **summary}

    return artifacts.run_stage(one.target, made, make, anew=replace and len(known) < _texts(old.folder))


def read_answers(module: Vertical, record: StageRecord) -> list[rows.Answered]:
    """What an evaluation's model said, as it was before it was scored.

    Raises:
        DataError: the tables lack a column that is needed.
    """
    tables = {name: artifacts.read_table(record.folder / f"{name}.parquet") for name in ("items", "generations")}
    options = rows.by_item(artifacts.read_table(record.folder / "options.parquet").to_pylist(), "option")
    said = rows.by_item(tables["generations"].to_pylist(), "sample")
    lacking = {"item_id", "cluster", "prompt", "prompt_json", "target"} - set(tables["items"].column_names)
    if lacking:
        raise DataError(f"{record.folder}/items.parquet lacks {', '.join(sorted(lacking))}. Evaluate it again.")
    return [
        rows.Answered(
            _item(str(record.config["vertical"]), row, options.get(row["item_id"], ())),
            row["prompt"],
            tuple(said.get(row["item_id"], ())),
            tuple(options.get(row["item_id"], ())),
        )
        for row in tables["items"].to_pylist()
    ]


def _item(vertical: str, row: Mapping[str, Any], options: Iterable[Mapping[str, Any]]) -> Item:
    """An item from its row; its fields that are texts stand in columns of their names, where they are not empty."""
    named = {field.name: row[field.name] for field in fields(Item) if isinstance(row.get(field.name), str)}
    return Item(
        **{
            **named,
            "id": row["item_id"],
            "vertical": vertical,
            "prompt": prompt_from_json(row["prompt_json"]),
            "options": tuple(Option(option["text"], option["good"]) for option in options),
            "target": json.loads(row["target"]),
        }
    )


def _scores(folder: Path) -> dict[str, float]:
    """The scores that an evaluation holds, by text."""
    table = artifacts.read_table(folder / "generations.parquet").select(["response", "score"])
    pairs = zip(table["response"].to_pylist(), table["score"].to_pylist(), strict=True)
    return {text: score for text, score in pairs if text.strip() and score is not None and not math.isnan(score)}


def _texts(folder: Path) -> int:
    """How many distinct texts of an evaluation a scorer is asked for."""
    texts = artifacts.read_table(folder / "generations.parquet")["response"].to_pylist()
    return len({text for text in texts if text.strip()})
