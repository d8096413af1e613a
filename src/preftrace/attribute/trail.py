"""Methods that look along a training: which they are, and whether a stage kept what they need. Imports no torch."""

from __future__ import annotations

from preftrace import models
from preftrace.attribute.config import AttributeConfig
from preftrace.errors import ConfigError
from preftrace.registry import METHODS
from preftrace.types import StageRecord


def needs_checkpoints(method: str) -> bool:
    """Whether a method looks at checkpoints from the middle of the training, beside the finished model."""
    return bool(getattr(METHODS.load(method), "CHECKPOINTS", False))


def check_trail(config: AttributeConfig, source: StageRecord) -> None:
    """See that the stage that trained on the pairs kept checkpoints, where a method needs them.

    Raises:
        ConfigError: it kept none.
    """
    needing = [name for name in config.methods if needs_checkpoints(name)]
    if needing and not models.read_kept(source.folder):
        words = (
            f"methods: '{needing[0]}' needs checkpoints from the training of '{source.folder.name}', which kept none"
        )
        raise ConfigError([f"{words}; set its keep_checkpoints (to 4, for example) and train it again"])
