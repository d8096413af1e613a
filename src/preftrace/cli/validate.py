"""`preftrace validate RUN`: do the scores of a stage's pairs predict what training again without some of them makes?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from preftrace.attribute.fidelity_result import FidelityResult


def validate(
    run: Annotated[Path, typer.Argument(help="run folder")],
    stage: Annotated[str, typer.Option(help="trained stage whose influence is there; ppo: through its reward model")],
    subsets: Annotated[int, typer.Option(min=0, help="random subsets to train on again; 0: no LDS")] = 50,
    fraction: Annotated[float, typer.Option(help="share of the pairs in a subset")] = 0.5,
    remove: Annotated[
        float, typer.Option(min=0, help="pairs to leave out at each end: a share below 1, or a count; 0: none")
    ] = 0.1,
    controls: Annotated[int, typer.Option(min=2, help="random groups that each such group is held against")] = 5,
    method: Annotated[
        list[str] | None,
        typer.Option(help="whose groups to leave out; may be repeated (the last of the influence's methods)"),
    ] = None,
    metric: Annotated[bool, typer.Option("--metric", help="also evaluate the verticals at every model; dear")] = False,
    seed: Annotated[int, typer.Option(min=0, help="seed of subsets, groups and intervals")] = 0,
    scores: Annotated[Path | None, typer.Option(help="folder of the influence (RUN/attribute/STAGE)")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the results (RUN/validate/STAGE)")] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes that train side by side")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print the tables as JSON for machines")] = False,
) -> None:
    """Train a stage again on random halves of its pairs, and without the extreme ones, and compare with the scores.

    LDS is the rank agreement, over the halves, of what the scores predict with what the trained models give: 1 orders
    all halves rightly, 0 is chance. The same command goes on after a kill, and trains nothing twice.
    """
    from rich.console import Console

    from preftrace import api

    options: dict[str, Any] = {"subsets": subsets, "fraction": fraction, "remove": remove, "controls": controls}
    options |= {"removal_methods": method or None, "metric": metric, "seed": seed}
    found = api.validate(run, stage, out, scores=scores, workers=workers, **options)
    if as_json:
        typer.echo(json.dumps(_plain(found), indent=2))
        return
    console = Console()
    if found.record.summary["subsets"]:
        console.print(lds(found))
    if len(found.removal()):
        console.print(removal(found))
    if len(found.recovery()):
        console.print(recovery(found))
    if found.verdict:
        console.print(found.verdict, markup=False, highlight=False)
    console.print(str(found.record.folder), markup=False, highlight=False, soft_wrap=True)


def _plain(found: FidelityResult) -> dict[str, Any]:
    tables = {"lds": found.frame(), "removal": found.removal(), "recovery": found.recovery()}
    rows = {name: json.loads(frame.to_json(orient="records")) for name, frame in tables.items()}
    return {"folder": str(found.record.folder), "verdict": found.verdict, **rows}


def lds(found: FidelityResult) -> Table:
    """LDS of every method and baseline, best first; the mean over the verticals last."""
    summary = found.record.summary
    table = _table(
        f"LDS of {summary['stage']}, {summary['subsets']} subsets of {summary['pairs']} pairs",
        "95% intervals; * is a baseline; ranked within a vertical",
        ("vertical", "method"),
        ("LDS", "interval", "rank"),
    )
    frame = found.frame()
    for _, rows in frame.groupby(["measure", "vertical"], sort=False):
        for i, row in enumerate(rows.sort_values("rank", na_position="last").to_dict("records")):
            first = "" if i else row["vertical"] + (" (trust)" if row["measure"] == "trust" else "")
            rank = "" if row["rank"] != row["rank"] else f"{row['rank']:.0f}"
            name = row["method"] + ("*" if row["baseline"] else "")
            table.add_row(first, name, _number(row["lds"]), _interval(row["low"], row["high"]), rank)
    return table


def removal(found: FidelityResult) -> Table:
    """What leaving the extreme pairs out did, beside random groups."""
    table = _table(
        "without the pairs that ...",
        "change of the query; random: where one more random group would lie; outside: the change is not there",
        ("method", "vertical", "left out"),
        ("change", "interval", "random", "outside"),
    )
    for row in found.removal().to_dict("records"):
        name = row["vertical"] + (" (trust)" if row["measure"] == "trust" else "")
        intervals = _interval(row["low"], row["high"]), _interval(row["random_low"], row["random_high"])
        cells = (f"{row['removed']} {row['side']}", f"{row['change']:+.3g}", *intervals)
        table.add_row(row["method"], name, *cells, "yes" if row["outside"] else "no")
    return table


def recovery(found: FidelityResult) -> Table:
    """How well planted pairs are found."""
    table = _table("planted pairs found", "chance: AUC 0.5", ("vertical", "method"), ("planted", "AUC", "recall", "p"))
    for row in found.recovery().to_dict("records"):
        numbers = (_number(row[name]) for name in ("auc", "recall", "p"))
        table.add_row(row["vertical"], row["method"], str(row["planted"]), *numbers)
    return table


def _table(title: str, caption: str, words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    from rich.table import Table

    table = Table(title=title, caption=caption, box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for word in words:
        table.add_column(word, overflow="fold")
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=True)
    return table


def _number(value: float) -> str:
    return "n/a" if value != value else f"{value:.3f}"


def _interval(low: float, high: float) -> str:
    return "n/a" if low != low or high != high else f"{low:+.3g} to {high:+.3g}"
