"""`preftrace report RUN`: the run as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="run folder, finished or not")],
    out: Annotated[Path | None, typer.Option(help="file to write; RUN/report.html where not given")] = None,
) -> None:
    """Write a run's report: one HTML file that opens offline."""
    from preftrace import api

    typer.echo(api.report(run, out))
