"""One page on a scorer: how far its scores agree with others that the same texts have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from preftrace import artifacts
from preftrace.errors import ArtifactError
from preftrace.report import charts, page
from preftrace.report.calibration import Bin
from preftrace.report.html import render

LEAD = "How far a scorer agrees with scores that the same texts have already."
WORDS = {
    "spearman": ("rank correlation (Spearman)", "1: the same order; 0: no relation"),
    "auc": ("area under the ROC curve", "chance that a text with a reference of 0.5 or more scores above one below"),
    "brier": ("Brier score", "mean squared distance to reference 0.5 or more; lower is better"),
    "calibration_error": ("expected calibration error", "mean distance of score and share in a bin; lower is better"),
}
EXAMPLES = 5
"""Texts shown on which scorer and reference are furthest apart, each way."""


def write(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a finished calibration as one HTML file.

    Args:
        folder: of the calibration.
        out: the file; `calibration.html` in the folder where not given.

    Raises:
        ArtifactError: the folder holds none, or the file cannot be written.
    """
    record = artifacts.read_record(folder)
    if record is None or record.kind != "calibrate":
        raise ArtifactError(f"{folder} holds no finished calibration. Make one with preftrace calibrate.")
    rows = artifacts.read_table(folder / "scores.parquet").to_pylist()
    html = render("scorer.html", **content(record.summary, rows))
    shown = [page.Section("agreement", f"Agreement with {record.summary['attribute']}", 0, html)]
    return page.save(f"Scorer {record.summary['scorer']['name']}", LEAD, shown, out or folder / "calibration.html")


def content(summary: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the template shows of a calibration's summary and its scored texts."""
    bins = [Bin(**each) for each in summary["curve"]]
    scored = [row for row in rows if row["score"] == row["score"]]
    order = sorted(scored, key=lambda row: row["score"] - row["reference"])
    axes = (0.0, "score", f"{summary['attribute']} of 0.5 or more", "texts")
    return {
        "s": summary,
        "rate": summary["positive"] / summary["compared"] if summary["compared"] else None,
        "measures": [(*WORDS[name], value) for name, value in summary["measures"].items()],
        "bins": bins,
        "chart": charts.calibrated(bins, *axes) if bins else None,
        "apart": [("Scored far below the reference", order[:EXAMPLES]), ("Far above", order[::-1][:EXAMPLES])],
    }
