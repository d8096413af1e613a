"""`preftrace evaluate MODEL`: how trustworthy one model is, vertical by vertical."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preftrace.cli._options import parse_options

if TYPE_CHECKING:
    from rich.table import Table

    from preftrace.evaluate.base import VerticalConfig
    from preftrace.types import StageRecord


def evaluate(
    model: Annotated[str, typer.Argument(help="starter, a Hub id, a model folder, or a trained stage's folder")],
    vertical: Annotated[
        list[str] | None, typer.Option(help="which to run, may be repeated; the starter's five if left out")
    ] = None,
    source: Annotated[
        str, typer.Option(help="where the items are from: starter, or a vertical's own format")
    ] = "starter",
    path: Annotated[str | None, typer.Option(help="file, folder or Hub id of the items; needs --source")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="most items of a vertical: a seeded, balanced subset")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the vertical, such as samples=2")
    ] = None,
    out: Annotated[Path, typer.Option(help="results go to OUT/<name of the model>/<vertical>")] = Path("runs/evaluate"),
    format: Annotated[str, typer.Option(help="prompt format: raw or chat")] = "raw",
    backend: Annotated[
        str, typer.Option(help="what runs the model: hf, vllm or openai (then MODEL is its name)")
    ] = "hf",
    backend_set: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE of the backend, such as base_url=http://localhost:8000/v1")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of subset, draws and intervals")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="processes that share the work")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """Evaluate a model and print every measure with its 95% interval. What is there already is not run again."""
    from preftrace import models
    from preftrace.engines import Resources
    from preftrace.evaluate import backend as backends
    from preftrace.evaluate.base import FIVE
    from preftrace.evaluate.runner import run

    names = vertical or list(FIVE)
    given = {"source": source, "path": path, "limit": limit, **parse_options(option or [])}
    configs = _configs(names, given, format)
    checkpoint = models.resolve_checkpoint(model)
    runs_it = backends.configure({"name": backend, **parse_options(backend_set or [], taken=("name",))})
    digest = models.checkpoint_hash(checkpoint) if backends.load(backend).LOCAL else None
    records = [
        run(
            checkpoint,
            name,
            configs[name],
            out / stage_name(model) / name,
            format=format,
            seed=seed,
            backend=runs_it,
            resources=Resources(workers),
            model_hash=digest,
        )
        for name in names
    ]
    if as_json:
        typer.echo(json.dumps([_plain(record) for record in records], indent=2))
    else:
        _show(records)


def stage_name(model: str) -> str:
    """The folder name that a model's results go by."""
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else model.replace("/", "--").replace("@", "-")


def _configs(names: list[str], given: dict[str, Any], format: str) -> dict[str, VerticalConfig]:
    """The verticals' settings; every fault in any of them is reported at once."""
    from preftrace.errors import ConfigError
    from preftrace.evaluate.base import configure

    problems = [] if format in ("raw", "chat") else [f"--format '{format}' must be raw or chat"]
    if len(names) > 1 and given["source"] != "starter":
        problems.append("--source and --path belong to one vertical: name just one with --vertical")
    configs = {}
    for name in names:
        try:
            configs[name] = configure(name, given)
        except ConfigError as error:
            problems += [
                problem if problem.startswith("unknown") else f"{name}: {problem}" for problem in error.problems
            ]
    if problems:
        raise ConfigError(problems, "the options")
    return configs


def _plain(record: StageRecord) -> dict[str, Any]:
    return {"name": record.name, "folder": str(record.folder), "summary": record.summary}


def _show(records: list[StageRecord]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print(_table(records))
    for record in records:
        outcomes = record.summary["outcomes"]
        counted = (
            ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items()) if any(outcomes.values()) else ""
        )
        counted = counted or "nothing generated"
        console.print(
            escape(f"{record.config['vertical']}: {counted}; {record.folder}"), soft_wrap=True, highlight=False
        )


def _table(records: list[StageRecord]) -> Table:
    """Fits 80 columns: a vertical's own measures stand indented below its trust."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(caption="95% intervals; missing in brackets", box=None, padding=(0, 1), pad_edge=False)
    table.add_column("measure", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("interval", justify="right", no_wrap=True)
    table.add_column("better")
    table.add_column("items", justify="right", no_wrap=True)
    for record in records:
        vertical = str(record.config["vertical"])
        trust = {**record.summary["trust"], "label": f"{vertical}: trust", "better": "higher"}
        for row in (trust, *({**m, "label": f"  {m['label']}"} for m in record.summary["metrics"].values())):
            interval = f"[{_number(row['low'])} {_number(row['high'])}]"
            items = f"{row['n']}" + (f" (-{row['missing']})" if row["missing"] else "")
            cells = (row["label"], _number(row["value"]), interval, row["better"], items)
            table.add_row(*map(escape, cells), style="bold" if row is trust else None)
    return table


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
