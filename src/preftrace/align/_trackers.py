"""Trackers of `report_to` for a stage that TRL does not train, through accelerate's interface."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from preftrace.align._job import Job
from preftrace.errors import ConfigError

Log = Callable[[Mapping[str, float]], None]
"""Takes a row of curves: `step`, and numbers by name."""


def tensorboard_folder(job: Job) -> str:
    """Beside the stage, not in its working files, which are removed; TENSORBOARD_LOGGING_DIR overrides it."""
    return os.environ.get("TENSORBOARD_LOGGING_DIR", str(job.final.with_name(f"{job.final.name}.logs")))


@contextmanager
def tracked(job: Job, done: int) -> Iterator[Log]:
    """Start the trackers that the job asks for; what is yielded logs a step to them all.

    TensorBoard hides what a killed run logged of steps that are done again; other trackers begin a new run.

    Args:
        job: the training job; its stage names the trackers' project.
        done: steps that a killed run did.

    Raises:
        ConfigError: accelerate knows no tracker of a name.
    """
    names = _names(job)
    if not names:
        yield lambda row: None
        return
    from accelerate import Accelerator

    accelerator = Accelerator(log_with=names, project_dir=tensorboard_folder(job))
    accelerator.init_trackers(job.final.name, init_kwargs={"tensorboard": {"purge_step": done + 1}})

    def log(row: Mapping[str, float]) -> None:
        accelerator.log({f"train/{k}": v for k, v in row.items() if k != "step"}, step=int(row["step"]))

    try:
        yield log
    finally:
        accelerator.end_training()


def _names(job: Job) -> list[str]:
    asked = job.config.report_to
    names = sorted({asked} if isinstance(asked, str) else set(asked))
    if set(names) <= {"none"}:
        return []
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    if "all" in names:
        return [str(name) for name in get_available_trackers()]
    unknown = [name for name in names if name not in {"none", *LOGGER_TYPE_TO_CLASS}]
    if unknown:
        known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
        raise ConfigError([f"report_to: unknown tracker '{name}'; known: none, all, {known}" for name in unknown])
    return [name for name in names if name != "none"]
