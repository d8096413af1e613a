"""Checkpoints that a stage kept from the middle of its training. Imports no torch.

checkpoints/<step>/        an adapter and its checkpoint.json, as the finished stage has them
checkpoints/rates.json     the learning rate of each of these steps, and of the last one
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from preftrace import artifacts
from preftrace.models.checkpoints import read_checkpoint
from preftrace.types import Checkpoint

FOLDER = "checkpoints"
RATES = "rates.json"


class Kept(NamedTuple):
    """A model on the way of a training.

    Attributes:
        step: after how many steps.
        rate: the learning rate of the step that led there.
        checkpoint: the model.
    """

    step: int
    rate: float
    checkpoint: Checkpoint


def kept_folder(stage: Path, step: int) -> Path:
    """Where a stage keeps the checkpoint of a step."""
    return stage / FOLDER / str(step)


def write_rates(stage: Path, rates: Mapping[int, float]) -> None:
    """Write step -> learning rate, of the kept steps and of the last."""
    rows = [{"step": step, "learning_rate": rate} for step, rate in sorted(rates.items())]
    artifacts.write_json(stage / FOLDER / RATES, rows)


def read_kept(stage: Path) -> list[Kept]:
    """What a finished stage kept, in the order of its training, its finished model last; empty where it kept nothing.

    Raises:
        ModelError: an adapter is gone.
    """
    path = stage / FOLDER / RATES
    if not path.is_file():
        return []
    rates = {row["step"]: row["learning_rate"] for row in artifacts.read_json(path)}
    folders = {step: kept_folder(stage, step) for step in rates} | {max(rates): stage}
    return [Kept(step, rates[step], read_checkpoint(folder)) for step, folder in folders.items()]
