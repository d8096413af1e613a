"""`preftrace attribute RUN STAGE`: the influence of every pair on every vertical."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def attribute(
    run: Annotated[Path, typer.Argument(help="run folder")],
    stage: Annotated[str, typer.Argument(help="trained stage, such as dpo")],
    vertical: Annotated[str | None, typer.Option(help="show this vertical only")] = None,
    top: Annotated[int, typer.Option(min=1, help="pairs to show at each end")] = 5,
    method: Annotated[
        list[str] | None, typer.Option(help="influence method; may be repeated (identity, datainf)")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the scores (RUN/attribute/STAGE)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the pairs as JSON for machines")] = False,
) -> None:
    """Score the pairs that a stage trained on and show those that helped and harmed each vertical most."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from preftrace import api
    from preftrace.preferences.check import printable

    options: dict[str, Any] = {"methods": method} if method else {}
    scores = api.attribute(run, stage, out=out, **options)
    verticals = [vertical] if vertical else list(scores.record.summary["verticals"])
    shown = {name: api.extremes(scores, run, name, top) for name in verticals}
    if as_json:
        typer.echo(json.dumps({name: json.loads(f.to_json(orient="records")) for name, f in shown.items()}, indent=2))
        return
    for name, frame in shown.items():
        if frame.score.isna().all():
            typer.echo(f"{name}: no scores; {scores.record.summary['queries'][name]['note']}")
            continue
        table = Table("", "score", "z", "prompt", "chosen", "rejected", title=f"{name}: {escape(stage)}", expand=True)
        for row in frame.to_dict("records"):
            side = "helps" if row["score"] > 0 else "harms"
            texts = (escape(printable(clip(row[column]))) for column in ("prompt", "chosen", "rejected"))
            table.add_row(side, f"{row['score']:+.3g}", f"{row['z']:+.1f}", *texts)
        Console().print(table)


def clip(text: str, width: int = 160) -> str:
    """Text on one line, cut to `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
