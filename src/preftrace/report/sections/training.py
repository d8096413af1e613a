"""Training of every stage: curves, held-out measures in words, a reward model's calibration, sampled answers."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from preftrace.report import charts, html, phrases
from preftrace.report.calibration import calibration
from preftrace.report.html import known
from preftrace.report.view import Row, RunView
from preftrace.types import DECLARED

TITLE = "Training"
ORDER = 50
PANELS = (
    ("loss", {"loss": "loss"}),
    ("reward margin", {"reward_margin": "reward margin"}),
    ("reward accuracy", {"reward_accuracy": "reward accuracy"}),
    ("reward", {"chosen_reward": "chosen", "rejected_reward": "rejected"}),
    ("mean reward of a step's answers", {"reward": "reward"}),
    ("KL, nats an answer", {"kl": "KL"}),
    ("KL coefficient", {"kl_coef": "KL coefficient"}),
    ("entropy, nats a token", {"entropy": "entropy"}),
    ("share of clipped tokens", {"clip_fraction": "clip fraction"}),
    ("loss of the values", {"value_loss": "value loss"}),
    ("explained variance of the values", {"explained_variance": "explained variance"}),
    ("highest ratio of a minibatch", {"ratio": "ratio"}),
    ("tokens an answer", {"answer_tokens": "tokens"}),
    ("share of answers that ended", {"ended": "ended"}),
    ("gradient norm", {"grad_norm": "gradient norm"}),
)
STEERED = "kl_coef"
"""Drawn only where it moves."""
FROM_REWARD = ("ppo", "rloo")


def panels(rows: list[Row]) -> list[tuple[str, Markup]]:
    """(name, chart) of everything that was logged."""
    drawn = []
    for name, columns in PANELS:
        lines = {label: [(r["step"], r[c]) for r in rows if c in r and known(r[c])] for c, label in columns.items()}
        lines = {label: points for label, points in lines.items() if points}
        still = STEERED in columns and len({value for points in lines.values() for _, value in points}) < 2
        if lines and not still:
            drawn.append((name, charts.curves(lines, name)))
    return drawn


def measures(kind: str, held: dict[str, Any]) -> list[str]:
    """Held-out measures in sentences, for the kinds of stage that have some; none where nothing was held out."""
    if kind == "reward" and "reward_accuracy" in held:
        return phrases.judged(held)
    if kind in FROM_REWARD and "reward_before" in held:
        return phrases.rewarded(held)
    return []


def samples(run: RunView, stage: str) -> list[dict[str, Any]]:
    """Sampled answers of the first, the middle and the last step that has some, each with its prompt."""
    rows = run.table(f"align/{stage}/answers.parquet")
    steps = sorted({row["step"] for row in rows})
    if not steps:
        return []
    shown = dict.fromkeys((steps[0], steps[len(steps) // 2], steps[-1]))
    return [
        {**row, "prompt": run.pairs.get(row["pair_id"], {}).get("prompt", "")}
        for step in shown
        for row in rows
        if row["step"] == step
    ]


def block(run: RunView, stage: str) -> dict[str, Any]:
    """What the template shows of one stage."""
    record = run.trained[stage]
    held = run.table(f"align/{stage}/holdout.parquet") if record.kind == "reward" else []
    found = calibration([(row["chosen_reward"], row["rejected_reward"]) for row in held])
    return {
        "stage": stage,
        "record": record,
        "counted": "prompt" if record.kind in FROM_REWARD else "pair",
        "panels": panels(run.table(f"align/{stage}/curves.parquet")),
        "measures": measures(record.kind, record.summary.get("holdout") or {}),
        "surety": phrases.surety(found) if found else [],
        "calibration": charts.calibrated(found.bins) if found and len(found.bins) > 1 else None,
        "samples": samples(run, stage) if record.kind in FROM_REWARD else [],
    }


def render(run: RunView) -> str:
    """HTML of the section."""
    watched = [stage for stage, record in run.trained.items() if record.kind != DECLARED]
    return html.render("training.html", blocks=[block(run, stage) for stage in watched]) if watched else ""
