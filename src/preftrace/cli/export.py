"""`preftrace export`: the verticals as other harnesses read them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="export",
    help="The verticals inside other harnesses: same items, same prompts, same judges.",
    no_args_is_help=True,
)


@app.callback()
def _root() -> None:
    pass


@app.command("lm-eval")
def lm_eval(
    out: Annotated[
        Path | None, typer.Option(help="copy the folder there and print that; the installed one if left out")
    ] = None,
) -> None:
    """Print a folder for `lm_eval --include_path`: tasks preftrace_NAME, one for each vertical."""
    from preftrace.evaluate.exports.folder import lm_eval_folder

    typer.echo(str(lm_eval_folder(out)))
