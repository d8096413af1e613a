"""One file = one thing: what a folder holds is what is registered, and a broken file is named."""

import importlib
import sys

import pytest

from preftrace.errors import ConfigError
from preftrace.registry import Registry


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A package folder with two things, a helper, and a file that does not import."""
    package = tmp_path / "some_things"
    package.mkdir()
    files = {
        "__init__": "",
        "b": "NAME = 'b'",
        "a": "import sys\nNAME = 'a'",
        "_helper": "",
        "broken": "import nowhere_",
    }
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] == "some_things"]:
        del sys.modules[name]


def test_names_are_the_files_sorted_without_helpers_and_import_none(folder):
    assert Registry("some_things", "thing").names() == ["a", "b", "broken"]
    assert not [name for name in sys.modules if name.startswith("some_things.")]


def test_a_new_file_is_found_without_another_edit(folder):
    registry = Registry("some_things", "thing")
    assert registry.load("a").NAME == "a"
    (folder / "c.py").write_text("NAME = 'c'")
    # Python lists a folder again when its time has changed, which two files within one tick of the clock do not do.
    importlib.invalidate_caches()
    assert registry.names() == ["a", "b", "broken", "c"] and registry.load("c").NAME == "c"


@pytest.mark.parametrize("name", ["d", "_helper", "", "a.b", "__init__"])
def test_an_unknown_name_lists_the_known_ones(folder, name):
    with pytest.raises(ConfigError, match=rf"unknown thing '{name}'; known: a, b, broken"):
        Registry("some_things", "thing").load(name)


def test_a_file_that_does_not_import_is_named(folder):
    with pytest.raises(ImportError, match=r"thing 'broken' \(some_things\.broken\) does not import: .*nowhere_"):
        Registry("some_things", "thing").load("broken")
