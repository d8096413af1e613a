"""A training that is killed and run again gives the same files, byte for byte, as one that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from preftrace.align import _guard, _saves

KILLED = """
import os, signal, sys
from pathlib import Path
from preftrace import align, progress
from preftrace.align import _saves, dpo
from preftrace.config import AdapterConfig
from preftrace.types import Checkpoint
model, pairs, out = sys.argv[1:]
progress.quiet = True
whole = _saves.mark
def mark(save):
    if _saves.step(save) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    whole(save)
_saves.mark = mark
config, adapter = dpo.Config(batch_size=4, save_steps=2, epochs=2), AdapterConfig(r=4, alpha=8)
settings = {"format": "raw", "seed": 0, "inputs": {"pairs": "toy"}}
align.run("dpo", config, Checkpoint(model), Path(pairs), adapter, Path(out), **settings)
"""


class Crash(Exception):
    pass


@pytest.fixture
def crash_at(monkeypatch):
    """`crash_at(step)` makes the training fail after that step, before it is saved; `crash_at(0)` never."""

    def set_step(step: int) -> None:
        def check(self, at, logs):
            if at == step:
                raise Crash
            seen.append(at)

        seen.clear()
        monkeypatch.setattr(_guard.Guard, "check", check)

    seen: list[int] = []
    set_step.seen = seen
    return set_step


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("sft", {"save_steps": 2, "batch_size": 2, "gradient_accumulation": 2, "epochs": 3}),
        ("dpo", {"save_steps": 2, "epochs": 3, "scheduler": "cosine", "keep_checkpoints": 3}),
        ("reward", {"save_steps": 2, "epochs": 3, "keep_checkpoints": 2}),
        ("dpo", {"save_steps": 2, "epochs": 3, "method": "full", "weight_decay": 0.1}),
    ],
)
def test_a_crash_and_a_second_run_equal_one_run(stage, toy, crash_at, kind, settings):
    """9 steps, a save after every second one, a crash in step 6: the second run starts at step 5."""
    crash_at(0)
    whole = stage(kind, toy, name="whole", **settings)
    crash_at(6)
    with pytest.raises(Crash):
        stage(kind, toy, name="torn", **settings)
    crash_at(0)
    torn = stage(kind, toy, name="torn", **settings)
    assert crash_at.seen == [5, 6, 7, 8, 9]
    assert torn.outputs == whole.outputs
    assert torn.summary == whole.summary


def test_a_crash_after_the_last_step_trains_nothing_again(stage, toy, crash_at, monkeypatch):
    crash_at(0)
    whole = stage("sft", toy, name="whole")
    with monkeypatch.context() as patch:
        patch.setattr("preftrace.models.adapters.save_adapter", lambda *_: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            stage("sft", toy, name="torn")
    crash_at(0)
    torn = stage("sft", toy, name="torn")
    assert crash_at.seen == []
    assert torn.outputs == whole.outputs and torn.summary == whole.summary


def test_the_reference_is_run_once(stage, toy, crash_at, monkeypatch):
    from preftrace.align import _train

    labels: list[str] = []
    plain = _train.logprobs
    monkeypatch.setattr(_train, "logprobs", lambda lm, rows, label: labels.append(label) or plain(lm, rows, label))
    crash_at(3)
    with pytest.raises(Crash):
        stage("dpo", toy)
    crash_at(0)
    stage("dpo", toy)
    assert labels == ["reference of dpo", "held-out pairs after dpo"]


def test_kill_nine_while_a_save_is_written_equals_no_kill(stage, toy, tiny_folder, tmp_path):
    """Killed when the save of step 4 has its files but not its mark: only the save of step 2 counts."""
    out = tmp_path / "align" / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", KILLED, str(tiny_folder), str(toy), str(out)]
    assert subprocess.run(command, env=environment, capture_output=True).returncode == -signal.SIGKILL
    saves = out.with_name("killed.partial") / _saves.FOLDER
    assert sorted(p.name for p in saves.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    assert not (saves / "checkpoint-4" / _saves.MARK).exists()
    killed = stage("dpo", toy, name="killed", epochs=2)
    whole = stage("dpo", toy, name="whole", epochs=2)
    assert killed.outputs == whole.outputs and killed.summary == whole.summary


def test_only_the_newest_marked_save_is_left(tmp_path: Path):
    for step in (2, 10, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if step != 12:
            (tmp_path / f"checkpoint-{step}" / _saves.MARK).write_text("{}")
    assert _saves.latest(tmp_path) == tmp_path / "checkpoint-10"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-10"]
    assert _saves.latest(tmp_path / "nothing") is None
