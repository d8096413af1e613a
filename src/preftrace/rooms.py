"""Lets a package be called: `preftrace.align(...)` is a function of the API and `preftrace.align` a room of the house.

A module's class may be changed to a subclass of ModuleType (Python data model, "Customizing module attribute access").
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function()(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        """The function's own, for `help` and notebooks."""
        return inspect.signature(self._function())

    def _function(self) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(
            importlib.import_module("preftrace.api"), self.__name__.rpartition(".")[2]
        )
        return function


def make_callable(package: str) -> None:
    """Make the package call the function of its name in `preftrace.api`."""
    sys.modules[package].__class__ = _Room
