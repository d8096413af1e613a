"""Training curves of every stage."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from preftrace.report import charts, html
from preftrace.report.html import known
from preftrace.report.view import Row, RunView

TITLE = "Training"
ORDER = 50
PANELS = (
    ("loss", {"loss": "loss"}),
    ("reward margin", {"reward_margin": "reward margin"}),
    ("reward accuracy", {"reward_accuracy": "reward accuracy"}),
    ("reward", {"chosen_reward": "chosen", "rejected_reward": "rejected"}),
    ("gradient norm", {"grad_norm": "gradient norm"}),
)


def panels(rows: list[Row]) -> list[tuple[str, Markup]]:
    """(name, chart) of everything that was logged."""
    drawn = []
    for name, columns in PANELS:
        lines = {label: [(r["step"], r[c]) for r in rows if c in r and known(r[c])] for c, label in columns.items()}
        lines = {label: points for label, points in lines.items() if points}
        if lines:
            drawn.append((name, charts.curves(lines, name)))
    return drawn


def block(run: RunView, stage: str) -> dict[str, Any]:
    """What the template shows of one stage."""
    return {
        "stage": stage,
        "record": run.trained[stage],
        "panels": panels(run.table(f"align/{stage}/curves.parquet")),
    }


def render(run: RunView) -> str:
    """HTML of the section."""
    return html.render("training.html", blocks=[block(run, stage) for stage in run.trained]) if run.trained else ""
