"""Saves that a killed training goes on from. Only a save with its mark counts: the mark is written last."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from preftrace import artifacts

FOLDER = "_checkpoints"
PREFIX = "checkpoint-"
MARK = "complete.json"


def latest(folder: Path) -> Path | None:
    """The newest complete save in `folder`; all others, torn ones included, are removed."""
    saves = sorted(folder.glob(f"{PREFIX}*"), key=step)
    complete = [save for save in saves if (save / MARK).is_file()]
    for save in saves:
        if save not in complete[-1:]:
            shutil.rmtree(save)
    return complete[-1] if complete else None


def mark(save: Path) -> None:
    """Sync a save, mark it as complete, and remove the older ones."""
    for path in sorted(p for p in save.rglob("*") if p.is_file()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    artifacts.write_json(save / MARK, {"step": step(save)})
    latest(save.parent)


def step(save: Path) -> int:
    """The training step after which the save was made."""
    return int(save.name.removeprefix(PREFIX))
