"""What became of the preference pairs: read, kept, dropped and why, and what each stage used."""

from __future__ import annotations

from preftrace.report import html
from preftrace.report.view import RunView

TITLE = "Data"
ORDER = 60
EXAMPLES = 5


def render(run: RunView) -> str:
    """HTML of the section."""
    record = run.record("pairs")
    if record is None and not run.trained:
        return ""
    dropped = run.table("pairs/dropped.parquet")
    return html.render("data.html", record=record, trained=run.trained, dropped=dropped[:EXAMPLES], lost=len(dropped))
