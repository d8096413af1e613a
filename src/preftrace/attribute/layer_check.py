"""Whether patterns of layers name anything, before there is a model. Imports torch only where there are patterns."""

from __future__ import annotations

from pathlib import Path

from preftrace import models
from preftrace.attribute.config import AttributeConfig
from preftrace.models.adapters import adapted_modules
from preftrace.types import StageRecord


def check_layers(config: AttributeConfig, source: StageRecord) -> None:
    """See that every pattern names a module that the stage's adapter is on, from the names in the adapter's file.

    A stage without an adapter, or with one in another form, is left to what loads it.

    Args:
        config: settings.
        source: the stage whose parameters are looked at.

    Raises:
        ConfigError: a pattern names none of them.
    """
    adapters = models.read_checkpoint(source.folder).adapters if config.layers else ()
    names = adapted_modules(Path(adapters[-1])) if adapters else []
    if names:
        from preftrace.attribute.layers import select

        select(names, config.layers)
