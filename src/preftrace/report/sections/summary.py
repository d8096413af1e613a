"""What happened, in words, and what was run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preftrace.report import html, phrases
from preftrace.report.html import plural, seconds, stage_name, title
from preftrace.report.view import RunView
from preftrace.types import SILENT, StageRecord

TITLE = "Summary"
ORDER = 0


def facts(run: RunView) -> list[tuple[str, str]]:
    """What was run, as name and value."""
    rows = [("Model", str(run.study["model"]))] if "model" in run.study else []
    pairs = run.record("pairs")
    if pairs:
        rows.append(("Preference pairs", f"{pairs.summary['kept']:,} kept of {pairs.summary['read']:,} read"))
    if run.stages:
        rows.append(("Stages", " → ".join(stage_name(stage) for stage in run.stages)))
    if run.evaluations:
        rows.append(("Verticals", ", ".join(run.evaluations)))
    methods = dict.fromkeys(m for record in run.attributed.values() for m in record.summary["methods"])
    if methods:
        rows.append(("Influence methods", ", ".join(methods)))
    if run.records:
        rows.append(("Work time", seconds(sum(r.seconds for r in run.records))))
    return rows


def findings(run: RunView) -> list[dict[str, Any]]:
    """For each vertical the change from its first stage to its last, then its other changes."""
    found = []
    for vertical, by_stage in run.evaluations.items():
        stages = list(by_stage)
        rows = [r for r in run.comparisons if r["vertical"] == vertical and r["measure"] == "trust"]
        head = run.comparison(vertical, stages[0], stages[-1])
        if head is None:
            continue
        found.append(
            {
                "name": title(vertical),
                "row": head,
                "kind": phrases.CLASSES[head["verdict"]],
                "after": stage_name(head["b"]),
                "others": [r for r in rows if r is not head],
                "silent": silent(by_stage),
            }
        )
    return found


def silent(by_stage: Mapping[str, StageRecord]) -> list[str]:
    """The stages with many empty answers, and their share."""
    shares = {s: (r.summary["metrics"].get("empty_rate") or {}).get("value") or 0 for s, r in by_stage.items()}
    return [f"{stage_name(stage)} {share:.0%}" for stage, share in shares.items() if share >= SILENT]


def counts(run: RunView) -> str:
    """How many claims went which way."""
    record = run.record("compare")
    if record is None:
        return ""
    s = record.summary
    claims = plural(s["claims"], "comparison")
    found = f"{s['better']} found it better, {s['worse']} worse, and {s['unchanged']} found no change"
    return f"Of {claims} of trust, {found}."


def render(run: RunView) -> str:
    """HTML of the section."""
    return html.render(
        "summary.html",
        findings=findings(run),
        counts=counts(run),
        facts=facts(run),
        missing=run.missing,
        unfinished=run.unfinished,
        say=phrases,
    )
