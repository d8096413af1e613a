"""kill -9 of a ppo training at several moments: the same command goes on, and every file is an uninterrupted run's."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from preftrace.align import _saves
from tests.slow import kill_study

RULE = "def vowels(texts, answers):\n    return [float(any(c in 'aeiou' for c in answer)) for answer in answers]\n"
SETTINGS = {"rollouts": 4, "max_new_tokens": 8, "epochs": 5, "batch_size": 2, "max_length": 64, "save_steps": 1}
STEPS = 15

pytestmark = pytest.mark.slow


@pytest.fixture
def command(tmp_path, tiny_folder):
    """`command(folder)` trains into it; a second time, it goes on."""
    (tmp_path / "rules.py").write_text(RULE)
    rows = [{"prompt": f"Number {i}: may I?", "chosen": "Yes, sir.", "rejected": "No way."} for i in range(12)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {**SETTINGS, "reward": f"python:{tmp_path / 'rules.py'}:vowels", "kl_target": 0.5, "adapter.r": 4}
    words = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]

    def build(folder: Path) -> list[str]:
        start = [sys.executable, "-m", "preftrace", "align", "ppo", str(tmp_path / "pairs.jsonl")]
        return [*start, "--model", str(tiny_folder), "--out", str(folder / "ppo"), *words]

    return build


def newest(folder: Path) -> int:
    """The newest save that is begun, marked or not; -1: the stage is not begun."""
    partial = folder / "ppo.partial"
    saves = [_saves.step(path) for path in (partial / _saves.FOLDER).glob(f"{_saves.PREFIX}*")]
    return max(saves, default=0 if partial.exists() else -1)


def kill_at_save(command: list[str], folder: Path, save: int, delay: float) -> int:
    """Start or go on, and kill `delay` seconds after a save was begun; the newest save that is then marked."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kill_study.kill_once_there(process, lambda: newest(folder) >= save, delay)
    marks = (folder / "ppo.partial" / _saves.FOLDER).glob(f"*/{_saves.MARK}")
    return max((_saves.step(mark.parent) for mark in marks), default=0)


def test_a_killed_training_goes_on_to_the_same_bytes(command, tmp_path):
    """Killed in the rollouts, in a save, between them, and once more after the last save, all in one run."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), check=True, capture_output=True)
    expected = kill_study.results(whole)
    assert json.loads((whole / "ppo" / "record.json").read_text())["summary"]["steps"] == STEPS
    assert {"ppo/adapter/adapter_model.safetensors", "ppo/value_head.safetensors", "ppo/curves.parquet"} < set(expected)
    draw, marked = random.Random(0), []
    for save in (0, 1, 3, 5, 7, 9, 11, STEPS - 1):
        # Half of them at once, in the save itself; half of them somewhere in the step after it.
        marked.append(kill_at_save(command(killed), killed, save, draw.choice([0, draw.uniform(0, 0.1)])))
    print("newest marked save at each kill:", marked)
    assert marked == sorted(marked) and len(set(marked)) >= 4, f"the moments are badly chosen: {marked}"
    subprocess.run(command(killed), check=True, capture_output=True)
    assert kill_study.results(killed) == expected
