"""Where work runs: `local.py` is this machine, and an engine on a cluster is one more file with the same two functions.

Functions and workers are importable names (`package.module:attribute`), settings are JSON, data goes through files.
"""

from __future__ import annotations

from typing import cast

from preftrace.engines._base import Engine as Engine
from preftrace.engines._base import Resources as Resources
from preftrace.registry import ENGINES


def engine_of(resources: Resources) -> Engine:
    """The engine that the resources name.

    Raises:
        ConfigError: no such engine.
    """
    return cast(Engine, ENGINES.load(resources.engine))
