"""`write`: the sections, in order, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from preftrace import artifacts, progress
from preftrace.errors import ArtifactError
from preftrace.registry import SECTIONS
from preftrace.report.html import render
from preftrace.report.view import RunView

LEAD = "What preference alignment did to the model's trustworthiness, and which pairs did it."


class Section(NamedTuple):
    """One rendered section."""

    name: str
    title: str
    order: int
    html: Markup


def write(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run folder, finished or not, as one HTML file.

    Args:
        run: the run folder.
        out: the file; `report.html` in the run folder where not given.

    Raises:
        ArtifactError: `run` is not a run folder, or the file cannot be written.
    """
    view = RunView(run)
    if not view.records and not view.study_text and not view.unfinished:
        raise ArtifactError(f"{run} holds no study and no finished stage. Name a run folder, such as one below runs/.")
    return save(view.title, LEAD, sections(view), out or run / "report.html")


def save(title: str, lead: str, shown: Sequence[Section], target: Path) -> Path:
    """Write sections as one HTML file that needs no other.

    Raises:
        ArtifactError: the file cannot be written.
    """
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    page = render("page.html", title_text=title, lead=lead, style=Markup(style), sections=shown)
    try:
        with artifacts.replacing(target) as file:
            file.write(page.encode("utf-8"))
    except OSError as error:
        raise ArtifactError(f"cannot write {target}: {error}. Name a file that can be written with --out.") from error
    return target


def sections(view: RunView) -> list[Section]:
    """Every registered section that has something to show; one that fails shows its fault in its place."""
    shown = []
    for name in SECTIONS.names():
        module = SECTIONS.load(name)
        try:
            html = Markup(module.render(view))
        except Exception as error:
            progress.say(f"report: the section '{name}' could not be made: {type(error).__name__}: {error}")
            html = render("failed.html", kind=type(error).__name__, message=str(error))
        if html.strip():
            shown.append(Section(name, module.TITLE, module.ORDER, html))
    return sorted(shown, key=lambda section: (section.order, section.name))
