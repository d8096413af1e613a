"""A benchmark as a module."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(request, monkeypatch):
    """The benchmark that the test's module names in `SCRIPT`."""
    monkeypatch.syspath_prepend(FOLDER)  # as Python does for a script
    name = request.module.SCRIPT
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
