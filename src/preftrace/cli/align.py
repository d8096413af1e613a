"""`preftrace align KIND`: train one stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from preftrace.cli._options import parse_options


def align(
    kind: Annotated[str, typer.Argument(help="kind of stage: sft, reward, ppo, rloo or dpo")],
    pairs: Annotated[str, typer.Argument(help="pairs: a file, a Hub id, or starter")],
    out: Annotated[Path, typer.Option(help="folder of the stage")],
    model: Annotated[str, typer.Option(help="starter, a Hub id, a folder, or a finished stage's folder")] = "starter",
    source: Annotated[str | None, typer.Option(help="format of the pairs (guessed from the file)")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="first rows of the pairs only")] = None,
    format: Annotated[Literal["raw", "chat"], typer.Option(help="prompt format")] = "raw",
    seed: Annotated[int, typer.Option(min=0, help="seed")] = 0,
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="beta=0.2, epochs=2, adapter.r=16 ...")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON for machines")] = False,
) -> None:
    """Train one stage on preference pairs; run it again to resume."""
    from preftrace import api

    taken = ("kind", "pairs", "out", "model", "source", "limit", "format", "seed")
    record = api.align(
        kind,
        pairs,
        out,
        model=model,
        source=source,
        limit=limit,
        format=format,
        seed=seed,
        **parse_options(options or [], taken),
    )
    if as_json:
        typer.echo(json.dumps({"folder": str(record.folder), **record.summary}, indent=2))
    else:
        loss = f"loss {record.summary['first_loss']:.3f} -> {record.summary['last_loss']:.3f}"
        typer.echo(
            f"{kind}: {record.summary['pairs_used']} pairs, {record.summary['steps']} steps, {loss}; {record.folder}"
        )
