"""`preftrace attribute RUN STAGE`: the influence of every pair on every vertical; `show` and `layers` read it.

`adapted` scores a model that no run trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from preftrace.cli import attribute_adapted, attribute_show
from preftrace.cli._options import parse_options

TAKEN = ("run", "stage", "out", "methods")


class _ScoreFirst(TyperGroup):
    """`preftrace attribute RUN STAGE` is `preftrace attribute score RUN STAGE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `score` before what is no other command."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["score", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ScoreFirst,
    no_args_is_help=True,
    help="Influence of every pair on every vertical: `attribute RUN STAGE` scores a run's stage and `adapted` what "
    "`preftrace adapt` made; `show` and `layers` read.",
)
app.command()(attribute_adapted.adapted)
app.command()(attribute_show.show)
app.command()(attribute_show.layers)


@app.command()
def score(
    run: Annotated[Path, typer.Argument(help="run folder")],
    stage: Annotated[str, typer.Argument(help="trained stage, such as dpo")],
    vertical: Annotated[str | None, typer.Option(help="show this vertical only")] = None,
    top: Annotated[int, typer.Option(min=1, help="pairs to show at each end")] = 5,
    method: Annotated[
        list[str] | None, typer.Option(help="influence method; may be repeated (identity, datainf)")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="mode=store, layers=4-9, query=margin, ... (the study's)"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the scores (RUN/attribute/STAGE)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the pairs as JSON for machines")] = False,
) -> None:
    """Score the pairs that a stage trained on and show those that helped and harmed each vertical most."""
    from preftrace import api

    given = parse_options(options or [], TAKEN) | ({"methods": method} if method else {})
    scores = api.attribute(run, stage, out=out, **given)
    attribute_show.print_scores(scores, stage, vertical, top, as_json)
