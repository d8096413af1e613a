"""Checkpoints that a stage kept from the middle of its training. Imports no torch.

checkpoints/<step>/    an adapter and its checkpoint.json, as the finished stage has them
curves.parquet         the learning rate of every step
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from preftrace import artifacts
from preftrace.models.checkpoints import read_checkpoint
from preftrace.types import Checkpoint

FOLDER = "checkpoints"
CURVES = "curves.parquet"


class Kept(NamedTuple):
    """A model on the way of a training.

    Attributes:
        step: after how many steps.
        rates: sum of the learning rates of the steps since the checkpoint before, or since the start.
        checkpoint: the model.
    """

    step: int
    rates: float
    checkpoint: Checkpoint


def kept_folder(stage: Path, step: int) -> Path:
    """Where a stage keeps the checkpoint of a step."""
    return stage / FOLDER / str(step)


def read_kept(stage: Path) -> list[Kept]:
    """What a finished stage kept, in the order of its training, its finished model last; empty where it kept nothing.

    Raises:
        ModelError: an adapter is gone.
    """
    folders = {int(path.name): path for path in (stage / FOLDER).glob("*") if path.name.isdecimal()}
    if not folders:
        return []
    curves = artifacts.read_table(stage / CURVES).to_pydict()
    rates = dict(zip(curves["step"], curves["learning_rate"], strict=True))
    folders[max(rates)] = stage
    steps = sorted(folders)
    return [
        Kept(step, sum(rate for at, rate in rates.items() if before < at <= step), read_checkpoint(folders[step]))
        for before, step in zip([0, *steps], steps, strict=False)
    ]
