"""Imports point one way; and what must be fast imports nothing heavy."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src" / "preftrace"
FILES = sorted(SRC.rglob("*.py"))

FOUNDATION = ("types", "errors", "config", "registry", "artifacts", "progress")
"""Each may import those before it."""
BELOW_ROOMS = {*FOUNDATION, "engines", "starter"}
ROOMS_BELOW_STUDY = {"preferences", "models", "rewards", "align", "evaluate", "attribute", "report"}
ALLOWED = {
    **{name: set(FOUNDATION[:i]) for i, name in enumerate(FOUNDATION)},
    "starter": set(),
    "rooms": set(),
    "engines": set(FOUNDATION),
    "preferences": BELOW_ROOMS,
    "models": BELOW_ROOMS,
    "rewards": BELOW_ROOMS | {"models"},
    "align": BELOW_ROOMS | {"preferences", "models", "rewards"},
    "evaluate": BELOW_ROOMS | {"preferences", "models"},
    "attribute": BELOW_ROOMS | {"preferences", "models"},
    "report": set(FOUNDATION),
    "study": BELOW_ROOMS | ROOMS_BELOW_STUDY,
    "api": BELOW_ROOMS | ROOMS_BELOW_STUDY | {"study"},
    "cli": BELOW_ROOMS | ROOMS_BELOW_STUDY | {"study", "api", ""},
    "__init__": {*FOUNDATION, *ROOMS_BELOW_STUDY, "study", "api"},
    "__main__": {"cli"},
}
ONLY_IN = {"transformers": {"models"}, "peft": {"models"}, "trl": {"align"}, "ray": set()}
BY_NAME = {"registry": "its packages are named, and imported when asked for", "rooms": "calls the API by its name"}
IMPORTABLE_NAME = re.compile(r"preftrace(\.\w+)+(:\w+)?")


def imports_of(source: str, package: str) -> set[str]:
    """Dotted names of all that a file imports, wherever in it; text that is an importable name of preftrace counts.

    Args:
        source: the file's text.
        package: dotted name of the package that the file is in, for relative imports.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            home = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (home, node.module) if part)
            found |= {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and IMPORTABLE_NAME.fullmatch(node.value):
            found.add(node.value.partition(":")[0])
    return found


def room_of(path: Path) -> str:
    """The room that a file is in: the first part of its path below the package."""
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def rooms_imported(path: Path) -> set[str]:
    """The rooms of preftrace that a file imports from; "" is the package's own page."""
    package = ".".join(("preftrace", *path.relative_to(SRC).parts[:-1]))
    names = {name for name in imports_of(path.read_text(), package) if name.split(".")[0] == "preftrace"}
    known = {room_of(file) for file in FILES}
    rooms = {name.split(".")[1] if "." in name else "" for name in names}
    return {room if room in known else "" for room in rooms}


def test_the_reader_of_imports_sees_every_form():
    source = (
        "import os, trl.trainer\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from preftrace.align import run\n"
        "def f():\n    from preftrace import models as m\n    from . import near\n    from ..study import run\n"
        "    return importlib.import_module('preftrace.cli.app'), 'preftrace.engines.local:run', 'preftrace: no'\n"
    )
    assert imports_of(source, "preftrace.report.sections") == {
        "os",
        "trl.trainer",
        "typing.TYPE_CHECKING",
        "preftrace.align.run",
        "preftrace.models",
        "preftrace.report.sections.near",
        "preftrace.report.study.run",
        "preftrace.cli.app",
        "preftrace.engines.local",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SRC).as_posix())
def test_imports_point_one_way(path):
    room = room_of(path)
    if room in BY_NAME:
        return
    seen = rooms_imported(path) - {room}
    if path.name == "__init__.py":
        seen -= {"rooms"}
    assert seen <= ALLOWED[room], f"{room} may not import {sorted(seen - ALLOWED[room])}"


def test_every_room_has_its_place():
    assert {room_of(path) for path in FILES} == set(ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SRC).as_posix())
def test_heavy_libraries_stay_in_their_room(path):
    top = {name.split(".")[0] for name in imports_of(path.read_text(), "preftrace")}
    misplaced = {library for library, rooms in ONLY_IN.items() if library in top and room_of(path) not in rooms}
    assert not misplaced


HEAVY = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "sklearn", "scipy", "altair", "ray")
HEAVY += ("vllm", "lm_eval", "inspect_ai")
TABLES = ("pandas", "pyarrow")


def imported_by(code: str) -> set[str]:
    """Top-level names of the modules loaded after `code` has run in a fresh process."""
    show = "import sys; print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_preftrace_loads_nothing_heavy():
    assert imported_by("import preftrace") & {*HEAVY, *TABLES, "numpy", "pydantic"} == set()


@pytest.mark.parametrize("room", ["align", "attribute", "evaluate", "report"])
def test_a_room_is_the_same_thing_whatever_was_imported_before(room):
    """The function of the API and the package share a name; the name is the package, which can be called."""
    code = (
        f"import inspect, sys, preftrace\nfound = preftrace.{room}\nassert found is sys.modules['preftrace.{room}']\n"
        f"from preftrace import api, {room}\nassert {room} is found and callable(found)\n"
        f"assert inspect.signature(found) == inspect.signature(api.{room})"
    )
    assert imported_by(code) & set(HEAVY) == set()


def test_help_and_reading_a_study_load_nothing_heavy():
    code = (
        "import sys\nfrom preftrace.cli import main\nsys.argv = ['preftrace', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "from preftrace.study.reading import read_study\nread_study()"
    )
    assert imported_by(code) & {*HEAVY, *TABLES} == set()


def test_all_that_is_registered_and_the_api_load_without_torch():
    code = (
        "from preftrace import registry, api\nimport preftrace.study.run, preftrace.cli.app\n"
        "for each in (registry.SOURCES, registry.STAGES, registry.VERTICALS, registry.SCORERS, registry.METHODS,"
        " registry.BASELINES, registry.SECTIONS, registry.BACKENDS):\n    [each.load(name) for name in each.names()]"
    )
    assert imported_by(code) & set(HEAVY) - {"scipy"} == set()
