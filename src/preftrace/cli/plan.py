"""`preftrace plan`: how many items, or seeds, for how small an effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from preftrace.evaluate.planning import Plan, PlanConfig


def plan(
    a: Annotated[Path | None, typer.Argument(help="evaluations before, to measure the differences on")] = None,
    b: Annotated[Path | None, typer.Argument(help="evaluations after, likewise")] = None,
    effect: Annotated[float, typer.Option(help="true difference that is to be found")] = 0.05,
    items: Annotated[int | None, typer.Option(help="items that there are: what effect can they show?")] = None,
    sd: Annotated[float, typer.Option(help="standard deviation of the items' differences")] = 0.4,
    discordance: Annotated[float | None, typer.Option(help="0/1 items: share that changes either way")] = None,
    cluster_size: Annotated[float, typer.Option(help="items in a cluster")] = 1.0,
    correlation: Annotated[float, typer.Option(help="of the differences of items of one cluster")] = 0.0,
    seed_sd: Annotated[float | None, typer.Option(help="spread of the difference over training seeds")] = None,
    tests: Annotated[int, typer.Option(help="claims adjusted together: verticals x stage pairs")] = 1,
    alpha: Annotated[float, typer.Option(help="level of the verdicts")] = 0.05,
    power: Annotated[float, typer.Option(help="probability of finding the effect")] = 0.8,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """Plan a comparison: the items it takes to find an effect, from assumptions or from two evaluations (A B)."""
    from preftrace.cli.compare import _plain
    from preftrace.evaluate.planning import plan as planned
    from preftrace.progress import clean

    options: dict[str, Any] = {"effect": effect, "items": items, "sd": sd, "discordance": discordance}
    options |= {"cluster_size": cluster_size, "correlation": correlation, "seed_sd": seed_sd}
    found = planned(a, b, **options, tests=tests, alpha=alpha, power=power)
    if as_json:
        rows = {name: {"settings": s.identity(), "plan": _plain(p)} for name, (s, p) in found.items()}
        typer.echo(json.dumps(rows, indent=2))
    else:
        for name, (settings, one) in found.items():
            typer.echo(clean(_sentence(name, settings, one)))


def _sentence(name: str, settings: PlanConfig, plan: Plan) -> str:
    """One vertical's plan in words."""
    from preftrace.evaluate.planning import MOST

    shape = f"differences of sd {plan.sd:.3g}"
    if settings.discordance is not None:
        shape = f"{settings.discordance:.0%} of items changing"
    if plan.design_effect > 1:
        shape += f", {settings.cluster_size:.3g} items a cluster (design effect {plan.design_effect:.2f})"
    needed = f"more than {MOST:,} items"
    if plan.items is not None:
        needed = f"{plan.items:,} items"
        needed += f" in {plan.clusters:,} clusters" if plan.clusters != plan.items else ""
    asked = f"to find a difference of {settings.effect:g} ({settings.power:.0%} power, level {settings.level:.2g})"
    said = f"{asked}: {needed}"
    if plan.detectable is not None:
        seen = "no difference of any size" if plan.detectable == float("inf") else f"{plan.detectable:.3f}"
        said += f"; {settings.items:,} items show {seen}"
    if settings.seed_sd is not None:
        said += f"; {plan.seeds or 'no number of'} seeds, for a claim about the method"
    return f"{name}: {shape}. {said[0].upper()}{said[1:]}."
