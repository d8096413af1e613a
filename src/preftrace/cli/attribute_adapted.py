"""`preftrace attribute adapted FOLDER`: influence on a model that `preftrace adapt` made an adapter of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from preftrace.cli._options import parse_options
from preftrace.cli.attribute_show import print_scores

TAKEN = ("folder", "pairs", "out", "loss", "beta", "max_length", "format", "source", "seed", "verticals", "methods")


def adapted(
    folder: Annotated[Path, typer.Argument(help="what `preftrace adapt` made")],
    pairs: Annotated[str, typer.Option(help="pairs that the model was tuned on: a file, a Hub id, or starter")],
    loss: Annotated[str, typer.Option(help="what was minimised: sft or dpo")],
    out: Annotated[Path, typer.Option(help="folder of the pairs, the evaluations and the scores")],
    beta: Annotated[float | None, typer.Option(help="dpo's hold to the reference, which is the base (0.1)")] = None,
    max_length: Annotated[int, typer.Option(help="most tokens of prompt and answer")] = 1024,
    format: Annotated[Literal["raw", "chat"], typer.Option(help="prompt format of the training")] = "raw",
    source: Annotated[str | None, typer.Option(help="format of the pairs (guessed from the file)")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="first rows of the pairs only")] = None,
    vertical: Annotated[list[str] | None, typer.Option(help="vertical to evaluate; may be repeated (all)")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="influence method; may be repeated (identity, datainf)")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="mode=store, query=margin, ... or ethics.limit=40, ..."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed")] = 0,
    top: Annotated[int, typer.Option(min=1, help="pairs to show at each end")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="print the pairs as JSON for machines")] = False,
) -> None:
    """Score the pairs that a whole model was tuned on, by a loss that you name; run it again to resume."""
    from preftrace import api

    given = parse_options(options or [], TAKEN)
    verticals = _take_verticals(given, vertical)
    if method:
        given["methods"] = method
    said: dict[str, Any] = {"beta": beta, "max_length": max_length, "format": format, "seed": seed}
    scores = api.attribute_adapted(
        folder, pairs, out, loss, source=source, limit=limit, verticals=verticals, **said, **given
    )
    print_scores(scores, "adapted", None, top, as_json)


def _take_verticals(given: dict[str, Any], named: list[str] | None) -> dict[str, Any]:
    """Take the verticals' settings out of `given`: of those named, or of all."""
    from preftrace.errors import ConfigError
    from preftrace.registry import VERTICALS

    names = named or VERTICALS.names()
    found = {name: given.pop(name) for name in VERTICALS.names() if name in given}
    idle = [name for name in found if name not in names]
    if idle:
        raise ConfigError([f"--set {idle[0]}: it is not among the verticals named with --vertical"])
    return {name: found.get(name, {}) for name in names}
