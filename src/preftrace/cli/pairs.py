"""`preftrace pairs`: look at a file of preference pairs before anything is trained on it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich import markup
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from preftrace.errors import ModelError
from preftrace.preferences import ColumnNames, PreferencesConfig, mark_truncated, measure_pairs, summarise
from preftrace.preferences import read_guessed as guessed
from preftrace.preferences import read_pairs as read
from preftrace.preferences.check import Measure, PairsReport, count_words, printable
from preftrace.registry import SOURCES
from preftrace.types import Pair, Prompt, readable

app = typer.Typer(help="Look at preference pairs.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look at preference pairs."""


@app.command()
def check(
    path: Annotated[str, typer.Argument(help="a .jsonl, .json, .csv, .parquet file, a folder, or a Hub id")],
    source: Annotated[str | None, typer.Option(help="hh, columns, messages, starter; guessed if left out")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="read the first so many rows only")] = None,
    model: Annotated[str | None, typer.Option(help="whose tokenizer counts tokens; starter if left out")] = None,
    max_length: Annotated[int, typer.Option(min=1, help="flag pairs of more tokens as truncated")] = 512,
    column: Annotated[list[str] | None, typer.Option(help="prompt=, chosen= or rejected= and its name there")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Count the pairs of a file, their lengths and what is odd about them, and show two of them."""
    if source is not None:
        SOURCES.load(source)
    names = ColumnNames.parse(column or [])
    config = PreferencesConfig(path=path, limit=limit, source=source or "starter", columns=names)
    source, pairs = guessed(config) if source is None else (source, read(config))
    measure, unit, note = _measure(model)
    lengths = measure_pairs(pairs, measure)
    if not note:
        pairs = mark_truncated(pairs, lengths, max_length)
    report = summarise(path, source, pairs, lengths)
    if as_json:
        print(json.dumps({**asdict(report), "unit": unit, "note": note}, indent=2))
    else:
        _show(report, unit, note)


def _measure(model: str | None) -> tuple[Measure, str, str]:
    """What measures lengths, its unit, and a note where words had to stand in for tokens."""
    from preftrace import models

    try:
        tokenizer = models.load_tokenizer(model or "starter")
    except ModelError as error:
        if model is not None:
            raise
        return count_words, "words", f"Words are counted and nothing is flagged as truncated: {error}"

    def tokens(prompt: Prompt, answer: str) -> tuple[int, int]:
        encoded = models.encode(tokenizer, prompt, answer, "raw")
        return len(encoded.prompt_ids), len(encoded.answer_ids)

    return tokens, f"tokens of {model or 'starter'}", ""


def escape(text: str) -> str:
    """Text from data, safe to show."""
    return markup.escape(printable(text))


def _show(report: PairsReport, unit: str, note: str) -> None:
    console = Console()
    head = f"{report.path}: {report.read:,} pairs as '{report.source}', {report.unflagged:,} unflagged"
    console.print(escape(head), soft_wrap=True)
    flags = Table("flag", "pairs", "first rows (from 0)")
    for flag, found in report.flags.items():
        count = "not checked" if note and flag == "truncated" else str(found.count)
        flags.add_row(flag, count, ", ".join(map(str, found.rows)))
    lengths = Table(escape(unit), "mean", "median", "95%", "max")
    for part, size in report.lengths.items():
        lengths.add_row(part, f"{size.mean:.1f}", f"{size.median:.0f}", f"{size.p95:.0f}", str(size.max))
    console.print(flags, lengths, escape(note) if note else "", *map(_panel, report.examples), sep="\n")


def _panel(pair: Pair) -> Panel:
    parts = (("prompt", readable(pair.prompt).strip()), ("chosen", pair.chosen), ("rejected", pair.rejected))
    text = "\n".join(f"[bold]{name}[/bold]  {escape(content)}" for name, content in parts)
    return Panel(text, title=escape(f"row {pair.row}, {pair.id}"), title_align="left")
