"""The study as run: its file, seeds, versions, time by stage, and identities."""

from __future__ import annotations

from preftrace.report import html
from preftrace.report.view import RunView

TITLE = "The study as run"
ORDER = 70


def render(run: RunView) -> str:
    """HTML of the section."""
    if not run.records and not run.study_text:
        return ""
    versions: dict[str, list[str]] = {}
    for record in run.records:
        for name, version in record.versions.items():
            if version not in versions.setdefault(name, []):
                versions[name].append(version)
    return html.render(
        "study.html",
        text=run.study_text,
        records=run.records,
        versions=versions,
        seed=run.study.get("seed"),
        machine=run.machine,
    )
