"""Stops a training that has gone wrong, before anything of it is saved, and says which knob to turn."""

from __future__ import annotations

import math
from collections.abc import Mapping

from preftrace.align._job import Job
from preftrace.errors import UserError

WINDOW = 16
FACTOR = 4.0
NATS = 2.0
"""Diverged: the mean loss of the last 16 steps is over 4 times that of the first 16, and 2 nats above it."""


class Guard:
    """Looks at every logged step of one training process."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.losses: list[float] = []

    def check(self, step: int, logs: Mapping[str, float]) -> None:
        """Raise if the step's loss or gradient is not finite, or if the loss has blown up.

        Raises:
            UserError: with the setting to change.
        """
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise UserError(self._message(f"the {name.replace('_', ' ')} is {logs[name]} at step {step}"))
        self.losses.append(logs["loss"])
        if len(self.losses) > WINDOW:
            first, last = (sum(part) / WINDOW for part in (self.losses[:WINDOW], self.losses[-WINDOW:]))
            if last > FACTOR * first and last > first + NATS:
                raise UserError(self._message(f"the loss rose from {first:.3g} to {last:.3g} by step {step}"))

    def _message(self, fault: str) -> str:
        rate = self.job.config.rate(self.job.adapter)
        more = " Or set bf16: false." if self.job.config.bf16 else ""
        return (
            f"{self.job.final.name}: {fault}. Lower its learning_rate (now {rate:g}), for example to {rate / 10:g}."
            f"{more} Its last good save is kept in {self.job.work}."
        )
