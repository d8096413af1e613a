"""`preftrace compare A B`: what changed between two evaluated stages."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from preftrace.evaluate.compare import Comparison
    from preftrace.evaluate.planning import Plan


def compare(
    a: Annotated[
        Path,
        typer.Argument(
            help="evaluations before: RUN/evaluate/STAGE, the folder of one vertical, or a log of lm-eval or Inspect; "
            "with *, as in 'runs/s*/evaluate/sft', one for each training seed"
        ),
    ],
    b: Annotated[Path, typer.Argument(help="evaluations after, likewise")],
    out: Annotated[Path | None, typer.Option(help="folder to keep the comparisons in")] = None,
    resamples: Annotated[int, typer.Option(min=100, help="bootstrap resamples")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="seed of the resampling")] = 0,
    metrics: Annotated[bool, typer.Option("--metrics", help="show the verticals' own metrics too")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """Compare two stages item by item: difference, 95% interval, and a verdict for every vertical."""
    from rich.console import Console

    from preftrace.evaluate import compare as library
    from preftrace.evaluate.replicates import find_replicates

    config = library.CompareConfig(resamples=resamples, seed=seed)
    names = _names(a, b)
    found = [
        {name: library.find_evaluations(place) for name, place in zip(names, pair, strict=True)}
        for pair in find_replicates(a, b)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        folder = out if out is not None else Path(scratch) / "compare"
        library.compare_stage(found, folder, config)
        rows = library.load_comparisons(folder)
    if as_json:
        typer.echo(json.dumps([_plain(row) for row in rows], indent=2))
    else:
        Console().print(_table([r for r in rows if metrics or r.claim], *names))


def _names(a: Path, b: Path) -> tuple[str, str]:
    """The stages' names: the folders', or the whole paths where those are the same."""
    from preftrace.artifacts import RECORD

    short = [path.resolve().parent.name if (path / RECORD).is_file() else path.resolve().name for path in (a, b)]
    if short[0] != short[1]:
        return short[0], short[1]
    return (str(a), str(b)) if a != b else (str(a), f"{b} (again)")


def _plain(row: Comparison | Plan) -> dict[str, Any]:
    from dataclasses import asdict
    from math import isfinite

    return {key: None if isinstance(v, float) and not isfinite(v) else v for key, v in asdict(row).items()}


def _table(rows: list[Comparison], a: str, b: str) -> Table:
    """Fits 80 columns: a vertical's own metrics stand indented below it."""
    from rich.markup import escape
    from rich.table import Table

    from preftrace.progress import clean

    seeds = rows[0].n_seeds if rows else 1
    about = f"{seeds} seeds: about the two methods" if seeds > 1 else "about these two checkpoints, not other seeds"
    note = f"change: 95% interval; p: adjusted; seen: smallest change found 4 times in 5\n{about}"
    table = Table(title=escape(clean(f"{a} -> {b}")), caption=note, box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("vertical", overflow="fold")
    for name in ("before", "after", "change", "p", "seen"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        name = row.vertical if row.claim else f"  {row.measure.replace('_', ' ')}"
        name += f" ({row.n_missing} missing)" if row.n_missing else ""
        interval = "" if row.low != row.low else f" [{row.low:+.2f} {row.high:+.2f}]"
        cells = [name, f"{row.mean_a:.2f}", f"{row.mean_b:.2f}", f"{row.difference:+.2f}{interval}"]
        cells += [_number(row.p_adjusted), _number(row.mde), row.verdict]
        style = {"better": "green", "worse": "red"}.get(row.verdict)
        table.add_row(*(escape(clean(cell)) for cell in cells), style=style)
    return table


def _number(value: float) -> str:
    if value != value:
        return "n/a"
    return "none" if value == float("inf") else "<.001" if value < 0.001 else f"{value:.3f}"
