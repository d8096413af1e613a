"""`preftrace run [STUDY]`: the whole flow, from pairs to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def run(
    study: Annotated[Path | None, typer.Argument(help="study file (YAML); none: the starter study")] = None,
    out: Annotated[Path | None, typer.Option(help="run folder (runs/<name of the study>)")] = None,
    engine: Annotated[str, typer.Option(help="where work runs: local")] = "local",
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a setting: stages.dpo.beta=0.2")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the comparisons as JSON for machines")] = False,
) -> None:
    """Align, evaluate every stage, compare, attribute, report. Run it again to resume, or after changing an option."""
    from preftrace.registry import ENGINES
    from preftrace.study.reading import read_study
    from preftrace.study.run import run_study

    ENGINES.load(engine)
    settings = read_study(study, changes or [])
    done = run_study(settings, out or Path("runs") / settings.name, engine)
    if as_json:
        frame = done.comparison_frame()
        typer.echo(
            json.dumps(
                {
                    "run": str(done.folder),
                    "report": str(done.report),
                    "comparisons": json.loads(frame.to_json(orient="records")),
                },
                indent=2,
            )
        )
        return
    for claim in done.comparisons():
        if claim.measure == "trust":
            words = f"{claim.difference:+.3f} ({claim.low:+.3f} to {claim.high:+.3f})"
            typer.echo(f"{claim.vertical:<13} {claim.a} -> {claim.b}: trust {words}, {claim.verdict}")
    typer.echo(f"report: {done.report}")
