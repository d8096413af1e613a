"""One file = one thing: the modules of a folder are its registered things, and the file's name is the name.

Files that start with an underscore are helpers, not things. Modules are imported when asked for, never before.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from preftrace.errors import ConfigError


class Registry:
    """The things in one package folder.

    Args:
        package: dotted name of the folder, such as `preftrace.evaluate.verticals`.
        noun: what one thing is called in messages.
    """

    def __init__(self, package: str, noun: str) -> None:
        self.package = package
        self.noun = noun

    def names(self) -> list[str]:
        """The registered names, sorted; imports none of them."""
        path = importlib.import_module(self.package).__path__
        return sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))

    def load(self, name: str) -> ModuleType:
        """Import the module called `name`.

        Raises:
            ConfigError: no such name; the message lists the known ones.
            ImportError: the file exists and does not import; the message names the file.
        """
        if name not in self.names():
            raise ConfigError([f"unknown {self.noun} '{name}'; known: {', '.join(self.names())}"])
        try:
            return importlib.import_module(f"{self.package}.{name}")
        except ImportError as error:
            raise ImportError(f"{self.noun} '{name}' ({self.package}.{name}) does not import: {error}") from error


SOURCES = Registry("preftrace.preferences.sources", "preference source")
STAGES = Registry("preftrace.align", "stage kind")
REWARDS = Registry("preftrace.rewards", "reward")
VERTICALS = Registry("preftrace.evaluate.verticals", "vertical")
SCORERS = Registry("preftrace.evaluate.scorers", "scorer")
BACKENDS = Registry("preftrace.evaluate.backends", "backend")
METHODS = Registry("preftrace.attribute.methods", "influence method")
BASELINES = Registry("preftrace.attribute.baselines", "baseline")
ENGINES = Registry("preftrace.engines", "engine")
SECTIONS = Registry("preftrace.report.sections", "report section")
