"""`preftrace attribute show` and `layers`: read the influence that a run holds; nothing is computed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

    from preftrace.attribute.scores import InfluenceScores

FOLDER = typer.Argument(help="run folder, or the folder of one influence stage")
STAGE = typer.Option(help="trained stage, such as dpo, where the run has influence of several")
METHOD = typer.Option(help="influence method or baseline (the last of the study's methods)")
VERTICAL = typer.Option(help="this vertical only")
JSON = typer.Option("--json", help="print JSON for machines")


def show(
    folder: Annotated[Path, FOLDER],
    vertical: Annotated[str | None, VERTICAL] = None,
    top: Annotated[int, typer.Option(min=1, help="pairs to show")] = 10,
    stage: Annotated[str | None, STAGE] = None,
    method: Annotated[str | None, METHOD] = None,
    helpful: Annotated[bool, typer.Option("--helpful", help="those that help, not those that harm")] = False,
    csv: Annotated[Path | None, typer.Option(help="also write them, with their whole texts, to this file")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show the pairs that harm a vertical most, worst first (or help it most)."""
    import pandas as pd

    from preftrace.attribute import reading

    scores = reading.find_scores(folder, stage)
    name = reading.method_of(scores, method)
    verticals = reading.verticals_of(scores, vertical)
    frames = {v: reading.with_texts(scores, scores.top(v, top, name, harmful=not helpful)) for v in verticals}
    if csv is not None:
        _write_csv(csv, pd.concat(list(frames.values())))
    if as_json:
        typer.echo(json.dumps({v: json.loads(f.to_json(orient="records")) for v, f in frames.items()}, indent=2))
        return
    for v, frame in frames.items():
        title = f"{v}: pairs that {'help' if helpful else 'harm'} most, {scores.record.name}, by {name}"
        print_pairs(title, frame, scores.record.summary["queries"][v]["note"])
    if csv is not None:
        typer.echo(f"written: {csv}")


def layers(
    folder: Annotated[Path, FOLDER],
    vertical: Annotated[str | None, VERTICAL] = None,
    stage: Annotated[str | None, STAGE] = None,
    method: Annotated[str | None, METHOD] = None,
    pair: Annotated[str | None, typer.Option(help="id of one pair (the mean over the pairs that were kept)")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show what each layer of the model gives to the scores."""
    from rich.console import Console
    from rich.table import Table

    from preftrace.attribute import reading

    scores = reading.find_scores(folder, stage)
    name = reading.method_of(scores, method)
    shown = {v: reading.layer_shares(scores, v, name, pair) for v in reading.verticals_of(scores, vertical)}
    if as_json:
        typer.echo(json.dumps({v: json.loads(f.to_json(orient="records")) for v, f in shown.items()}, indent=2))
        return
    for v, frame in shown.items():
        table = Table("layer", "mean |share|", "mean share", "contribution", title=f"{v}: layers, by {name}")
        for row in frame.to_dict("records"):
            table.add_row(row["layer"], f"{row['size']:.1%}", f"{row['share']:+.1%}", f"{row['contribution']:+.3g}")
        Console().print(table)


def print_scores(scores: InfluenceScores, stage: str, vertical: str | None, top: int, as_json: bool) -> None:
    """The pairs at both ends of every vertical, or of one, as tables or as JSON."""
    from preftrace.attribute import reading

    shown = {name: reading.extremes(scores, name, top) for name in reading.verticals_of(scores, vertical)}
    if as_json:
        typer.echo(json.dumps({name: json.loads(f.to_json(orient="records")) for name, f in shown.items()}, indent=2))
        return
    for name, frame in shown.items():
        print_pairs(f"{name}: {stage}", frame, scores.record.summary["queries"][name]["note"])


def print_pairs(title: str, frame: pd.DataFrame, note: str) -> None:
    """A table of scored pairs with their texts shortened, or the note where they have no scores."""
    from rich.console import Console
    from rich.table import Table

    from preftrace.cli.pairs import escape

    if frame.score.isna().all():
        typer.echo(f"{title}: no scores; {note or 'none of its pairs could be scored'}")
        return
    columns = ("pair", "score", "z", "if removed", "prompt", "chosen", "rejected")
    table = Table(title=escape(title), expand=True)
    for name in columns:
        table.add_column(name, no_wrap=name not in columns[4:])
    for row in frame.to_dict("records"):
        shown = (("score", "+.3g"), ("z", "+.1f"), ("effect_of_removal", "+.2g"))
        numbers = ("-" if math.isnan(row[name]) else format(row[name], form) for name, form in shown)
        table.add_row(escape(row["pair_id"]), *numbers, *(escape(clip(row[key])) for key in columns[4:]))
    Console().print(table)


def clip(text: str, width: int = 160) -> str:
    """Text on one line, cut to `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    from preftrace import artifacts
    from preftrace.errors import ArtifactError

    try:
        with artifacts.replacing(path) as file:
            file.write(frame.to_csv(index=False).encode("utf-8", "replace"))
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error}. Name a file that can be written with --csv.") from error
