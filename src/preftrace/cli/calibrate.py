"""`preftrace calibrate --scorer SPEC --items FILE`: how far a scorer agrees with scores that a file has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from preftrace.types import StageRecord


def calibrate(
    scorer: Annotated[str, typer.Option(help="profanity, hf:MODEL, guard:MODEL, openai-moderation, http:URL")],
    items: Annotated[
        list[Path],
        typer.Option(help="file of RealToxicityPrompts rows, or of rows with text and score; may be repeated"),
    ],
    part: Annotated[str, typer.Option(help="prompt, continuation or both")] = "both",
    attribute: Annotated[str, typer.Option(help="reference score, by its name in the file")] = "toxicity",
    limit: Annotated[int | None, typer.Option(min=1, help="first rows of each file only")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the result (runs/calibrate/<scorer>)")] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of the intervals")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """Score the texts of a file and compare with the scores it has, such as Perspective's in RealToxicityPrompts.

    Writes a page with the calibration curve. The same command goes on after a kill.
    """
    from rich.console import Console

    from preftrace.study.calibrate import calibrate as hold_against

    options: dict[str, Any] = {"part": part, "attribute": attribute, "limit": limit, "seed": seed}
    folder = out or Path("runs/calibrate") / re.sub(r"[^A-Za-z0-9._-]+", "-", scorer)[:80]
    record = hold_against(scorer, items, folder, **options)
    if as_json:
        typer.echo(json.dumps({"folder": str(record.folder), "summary": record.summary}, indent=2))
        return
    Console().print(_table(record))
    typer.echo(record.folder / "calibration.html")


def _table(record: StageRecord) -> Table:
    from rich.markup import escape
    from rich.table import Table

    summary = record.summary
    left = f"{summary['unscored']:,} without a score, {summary['without_reference']:,} without a reference"
    table = Table(
        title=escape(f"{summary['scorer']['name']}: {summary['compared']:,} texts compared"),
        caption=f"95% intervals; left out: {left}",
        box=None,
        padding=(0, 1),
        pad_edge=False,
    )
    table.add_column("measure")
    table.add_column("value", justify="right")
    table.add_column("interval", justify="right")
    for name, row in summary["measures"].items():
        cells = ["n/a" if row[key] is None else f"{row[key]:.3f}" for key in ("value", "low", "high")]
        table.add_row(name.replace("_", " "), cells[0], f"{cells[1]} to {cells[2]}")
    return table
