"""Adapters that a stage keeps from the middle of its training, for influence that looks along its way.

They are written before the step's save is marked, so that a killed run that goes on from a later save finds them, and
one that goes on from an earlier save writes the same bytes again.
"""

from __future__ import annotations

from typing import Any

from preftrace import models
from preftrace.align._config import PairConfig, StageConfig
from preftrace.align._job import Job
from preftrace.errors import ConfigError
from preftrace.models.kept import kept_folder


def kept_steps(config: StageConfig, total: int) -> tuple[int, ...]:
    """The steps to keep: `keep_checkpoints` different ones at equal distances, all before the last.

    Args:
        config: the stage's settings.
        total: steps of the training.

    Raises:
        ConfigError: there are not that many steps before the last.
    """
    count = config.keep_checkpoints if isinstance(config, PairConfig) else 0
    if total <= count:
        words = f"keep_checkpoints: {count} is more than the {total - 1} steps before the last one"
        raise ConfigError([f"{words}; lower it, or batch_size"])
    return tuple(total * i // (count + 1) for i in range(1, count + 1))


def keep(job: Job, model: Any, step: int) -> None:
    """Write the adapter as it is after a step, and a reward model's head with it, as a checkpoint of its own."""
    from preftrace.models import adapters

    work, final = kept_folder(job.work, step), kept_folder(job.final, step)
    adapters.save_adapter(model, work / "adapter")
    models.write_checkpoint(work, job.ending(final / "adapter"), final, job.final.parent)
