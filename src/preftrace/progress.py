"""Progress on the terminal: a bar with an ETA, or plain lines where the output is not a terminal.

Everything goes to standard error, so that standard output holds results only.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)
quiet = False
LINE_SECONDS = 10.0
"""Where there is no terminal, one line at most this often."""


def clean(text: str) -> str:
    """`text` with every character that could hide, reorder or overwrite text made visible as <U+XXXX>.

    Control characters (but tab and newline), bidirectional and other format characters, lone surrogates, and
    the two Unicode line separators.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"<U+{ord(c):04X}>" if _hidden(c) else c for c in text.replace("\r\n", "\n"))


def _hidden(character: str) -> bool:
    joiner = character in "\u200c\u200d"
    return character not in "\t\n" and not joiner and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def say(message: str) -> None:
    """Print one line of plain text."""
    if not quiet:
        console.print(escape(clean(message)), highlight=False, soft_wrap=True)


@contextmanager
def silent() -> Iterator[None]:
    """Nothing is shown by what runs inside: it is a part of work that has a bar already."""
    global quiet
    before, quiet = quiet, True
    try:
        yield
    finally:
        quiet = before


@contextmanager
def bar(label: str, total: int, done: int = 0) -> Iterator[Callable[[], None]]:
    """A progress bar; the function it yields advances it by one."""
    if quiet or total == 0:
        yield lambda: None
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as shown:
            task = shown.add_task(escape(label), total=total, completed=done)
            yield lambda: shown.advance(task)
    else:
        yield _Lines(label, total, done).advance


class _Lines:
    def __init__(self, label: str, total: int, done: int) -> None:
        self.label, self.total, self.done, self.first = label, total, done, done
        self.started = self.shown = time.monotonic()

    def advance(self) -> None:
        self.done += 1
        now = time.monotonic()
        if now - self.shown >= LINE_SECONDS or self.done == self.total:
            self.shown = now
            left = (now - self.started) / (self.done - self.first) * (self.total - self.done)
            say(
                f"{self.label}: {self.done}/{self.total}"
                + (f", ETA {left:.0f} s" if self.done < self.total else f", {now - self.started:.0f} s")
            )
