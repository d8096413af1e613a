"""`preftrace rescore RUN --scorer SPEC`: score stored answers again, without generating."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from preftrace.types import StageRecord


def rescore(
    found: Annotated[Path, typer.Argument(help="a run, a folder of evaluations, or the folder of one")],
    scorer: Annotated[str, typer.Option(help="profanity, hf:MODEL, guard:MODEL, openai-moderation, http:URL")],
    out: Annotated[
        Path | None, typer.Option(help="results go to OUT/<stage>/<vertical> (rescore/<scorer> beside the evaluations)")
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="write over the evaluations, or what OUT holds, and ask again for lost scores"),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """Score the answers of finished evaluations by another scorer. The same command goes on after a kill.

    The results are evaluations like any other: compare, report and attribute take them.
    """
    from rich.console import Console

    from preftrace.evaluate.rescoring import rescore as score_again

    records = [each.record for each in score_again(found, scorer, out, replace=replace)]
    if as_json:
        plain = [{"name": r.name, "folder": str(r.folder), "summary": r.summary} for r in records]
        typer.echo(json.dumps(plain, indent=2))
        return
    Console().print(_table(records, scorer))
    for record in records:
        typer.echo(record.folder)


def _table(records: list[StageRecord], scorer: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from preftrace.cli.evaluate import _number

    table = Table(title=escape(f"scored by {scorer}"), box=None, padding=(0, 1), pad_edge=False)
    table.add_column("evaluation", overflow="fold")
    for name in ("trust", "interval", "answers", "no score"):
        table.add_column(name, justify="right", no_wrap=True)
    for record in records:
        trust, outcomes = record.summary["trust"], record.summary["outcomes"]
        table.add_row(
            escape(record.name.removeprefix("evaluate/")),
            _number(trust["value"]),
            f"{_number(trust['low'])} to {_number(trust['high'])}",
            str(sum(outcomes.values())),
            str(record.summary["unscored"]),
        )
    return table
