"""`preftrace doctor [MODEL]`: what this machine has, and whether a model's numbers can be trusted on it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Annotated

import typer

FAILED = 1
"""Exit code where a check failed; 2 is for bad input."""


def doctor(
    model: Annotated[str, typer.Argument(help="starter, a Hub id, a folder, or a finished stage's folder")] = "starter",
    adapter: Annotated[str | None, typer.Option(help="folder of a LoRA adapter to put on it (a random one)")] = None,
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16, autocast or float64")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print the facts and checks as JSON for machines")] = False,
) -> None:
    """Say what is installed here, and compare a model's numbers with plainer ways to compute them.

    Exit code 0 where nothing failed, 1 where a check failed.
    """
    from preftrace import api

    health = api.doctor(model, adapter=adapter, precision=precision)
    if as_json:
        checks = [{**asdict(c), "found": None if not math.isfinite(c.found) else c.found} for c in health.checks]
        typer.echo(json.dumps({"ok": health.ok, "facts": dict(health.facts), "checks": checks}, indent=2))
    else:
        facts = health.facts
        typer.echo("  ".join(f"{name} {version}" for name, version in facts["versions"].items()))
        typer.echo(
            f"{facts['platform']}; {facts['cores']} cores, {facts['threads']} threads; "
            f"CUDA: {'; '.join(facts['cuda']) or 'none'}; freed memory kept: {_word(facts['keeps_freed_memory'])}; "
            f"MKL_CBWR={facts['MKL_CBWR']}"
        )
        typer.echo(
            f"{facts['model']} ({facts['precision']} on {facts['device']}, attention {facts['attention']}), "
            f"adapter: {facts['adapter']}\n"
        )
        for check in health.checks:
            typer.echo(f"{check.status:4}  {check.name:14}  {check.message}")
    if not health.ok:
        raise typer.Exit(FAILED)


def _word(value: bool) -> str:
    return "yes" if value else "no"
