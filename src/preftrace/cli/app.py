"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from preftrace import __version__
from preftrace.cli import (
    adapt,
    align,
    attribute,
    calibrate,
    compare,
    doctor,
    evaluate,
    export,
    pairs,
    plan,
    report,
    rescore,
    run,
    validate,
)

app = typer.Typer(
    name="preftrace",
    help="What preference alignment did to a model's trustworthiness, and which pairs did it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"preftrace {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and stop")
    ] = False,
) -> None:
    pass


app.command()(run.run)
app.add_typer(pairs.app, name="pairs")
app.command()(align.align)
app.command()(adapt.adapt)
app.command()(evaluate.evaluate)
app.command()(rescore.rescore)
app.command()(calibrate.calibrate)
app.command()(compare.compare)
app.command()(plan.plan)
app.add_typer(attribute.app, name="attribute")
app.add_typer(export.app, name="export")
app.command()(validate.validate)
app.command()(report.report)
app.command()(doctor.doctor)
