"""`preftrace adapt BASE TUNED`: a low-rank adapter from the difference of two whole models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def adapt(
    base: Annotated[str, typer.Argument(help="the model before training: starter, a Hub id, or a folder")],
    tuned: Annotated[str, typer.Argument(help="the same model after training, all of its weights")],
    out: Annotated[Path, typer.Option(help="folder of the adapter")],
    rank: Annotated[int, typer.Option(min=1, help="rank of the adapter")] = 8,
    targets: Annotated[
        list[str] | None, typer.Option(help="module to adapt, may be repeated (all linear ones if left out)")
    ] = None,
    svd: Annotated[Literal["exact", "random"], typer.Option(help="random: faster on very large matrices")] = "exact",
    seed: Annotated[int, typer.Option(min=0, help="seed of --svd random")] = 0,
    pairs: Annotated[str, typer.Option(help="pairs whose answers both models are compared on")] = "starter",
    source: Annotated[str | None, typer.Option(help="format of the pairs (guessed from the file)")] = None,
    limit: Annotated[int, typer.Option(min=1, help="first rows of the pairs that are compared")] = 16,
    format: Annotated[Literal["raw", "chat"], typer.Option(help="prompt format of the comparison")] = "raw",
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON for machines")] = False,
) -> None:
    """Turn a whole fine-tuned model into base and adapter, and say what the adapter does not hold."""
    from preftrace import api

    options: dict[str, Any] = {"rank": rank, "svd": svd, "seed": seed, "limit": limit, "format": format}
    if targets:
        options["targets"] = targets[0] if targets == ["all-linear"] else tuple(targets)
    record = api.adapt(base, tuned, out, pairs=pairs, source=source, **options)
    if as_json:
        typer.echo(json.dumps({"folder": str(record.folder), **record.summary}, indent=2))
        return
    found, check = record.summary, record.summary["check"]
    least = found["least_energy"]
    typer.echo(
        f"adapt: {found['matrices']} matrices at rank {rank}, {found['energy_kept']:.1%} of their squared change kept "
        f"(least {least['energy']:.1%}, {least['matrix']}); {record.folder}"
    )
    typer.echo(
        f"log pi of {check['answers']} answers: off by {check['mean_error']:.3g} nats on average, "
        f"{check['max_error']:.3g} at most; tuning changed it by {check['mean_change']:.3g} on average"
    )
