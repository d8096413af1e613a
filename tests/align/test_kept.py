"""Checkpoints kept from a training: which steps, that they are what the model was, and that nothing else changes."""

from __future__ import annotations

import shutil

import pytest

from preftrace import artifacts, models
from preftrace.align import _kept, sft
from preftrace.align._kept import kept_steps
from preftrace.config import AdapterConfig
from preftrace.errors import ConfigError
from preftrace.types import Checkpoint

STEADY = {"scheduler": "constant_with_warmup", "warmup": 0.0}


def test_steps_are_at_equal_distances_before_the_last():
    assert kept_steps(sft.Config(keep_checkpoints=2), 9) == (3, 6)
    assert kept_steps(sft.Config(keep_checkpoints=3), 10) == (2, 5, 7)
    assert kept_steps(sft.Config(keep_checkpoints=4), 5) == (1, 2, 3, 4)
    assert kept_steps(sft.Config(), 1) == ()


def test_what_cannot_be_kept_is_said_with_the_setting(stage, toy, tmp_path):
    with pytest.raises(ConfigError, match=r"keep_checkpoints: whole models are not kept.*adapter\.method lora"):
        stage("sft", toy, method="full", keep_checkpoints=1)
    assert not list((tmp_path / "align").glob("*"))
    with pytest.raises(ConfigError, match="keep_checkpoints: 3 is more than the 2 steps before the last"):
        stage("sft", toy, keep_checkpoints=3)


def test_keeping_changes_nothing_else_and_not_keeping_is_no_setting(stage, toy):
    plain, keeping = stage("dpo", toy, name="plain", epochs=2), stage("dpo", toy, epochs=2, keep_checkpoints=1)
    parts = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors", "checkpoint.json")
    more = {f"checkpoints/3/{part}" for part in parts}
    assert set(keeping.outputs) - set(plain.outputs) == more
    assert {name: digest for name, digest in keeping.outputs.items() if name not in more} == plain.outputs
    assert keeping.summary == plain.summary and keeping.identity != plain.identity
    assert "keep_checkpoints" not in plain.config["stage"] and keeping.config["stage"]["keep_checkpoints"] == 1


@pytest.mark.parametrize("kind", ["sft", "dpo", "reward"])
def test_a_kept_checkpoint_is_the_model_that_a_shorter_training_ends_with(stage, toy, kind):
    """3 steps an epoch: what is kept after 3 of 9 steps is the model of one epoch, a reward model's head included."""
    long = stage(kind, toy, epochs=3, keep_checkpoints=2, learning_rate=1e-2, **STEADY)
    short = stage(kind, toy, name="short", epochs=1, learning_rate=1e-2, **STEADY)
    model = "adapter/adapter_model.safetensors"
    assert long.outputs[f"checkpoints/3/{model}"] == short.outputs[model] != long.outputs[model]
    tensors = artifacts.read_tensors(long.folder / "checkpoints/6" / model)
    assert any("score" in name for name in tensors) == (kind == "reward")


def test_rates_are_those_of_the_stretch_before_and_the_last_is_the_finished_model(stage, toy):
    record = stage("sft", toy, epochs=3, keep_checkpoints=2)
    kept = models.read_kept(record.folder)
    rates = artifacts.read_table(record.folder / "curves.parquet")["learning_rate"].to_pylist()
    assert [k.step for k in kept] == [3, 6, 9]
    assert [k.rates for k in kept] == pytest.approx([sum(rates[:3]), sum(rates[3:6]), sum(rates[6:])])
    assert sum(rates[3:6]) > sum(rates[6:]) > 0.05 * sum(rates), "the end of a linear schedule counts too"
    assert kept[2].checkpoint == models.read_checkpoint(record.folder)
    assert models.read_kept(stage("sft", toy, name="plain").folder) == []


def test_a_moved_run_finds_its_kept_checkpoints(stage, toy, tmp_path):
    """The chain goes through the stage before, whose folder moves along."""
    first = stage("sft", toy)
    second = stage("reward", toy, start=models.read_checkpoint(first.folder), keep_checkpoints=1)
    shutil.move(tmp_path / "align", tmp_path / "elsewhere")
    kept = models.read_kept(tmp_path / "elsewhere" / "reward")[0].checkpoint
    home = tmp_path / "elsewhere"
    assert kept.adapters == (str(home / "sft" / "adapter"), str(home / "reward" / "checkpoints" / "1" / "adapter"))
    assert models.load_reward(kept).head is not None
    assert models.resolve_checkpoint(str(home / "reward" / "checkpoints" / "1")) == kept
    assert second.summary["steps"] == 3


def test_a_kill_between_the_files_of_a_kept_checkpoint_changes_nothing(stage, toy, monkeypatch):
    whole = stage("reward", toy, name="whole", epochs=3, save_steps=2, keep_checkpoints=2)

    class Crash(Exception):
        pass

    def crash(folder, checkpoint: Checkpoint, *_: object) -> None:
        assert (folder / "adapter" / "adapter_model.safetensors").is_file()
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(_kept.models, "write_checkpoint", crash, raising=False)
        with pytest.raises(Crash):
            stage("reward", toy, name="torn", epochs=3, save_steps=2, keep_checkpoints=2)
    torn = stage("reward", toy, name="torn", epochs=3, save_steps=2, keep_checkpoints=2)
    assert torn.outputs == whole.outputs and torn.summary == whole.summary


def test_full_fine_tuning_without_keeping_is_as_before():
    assert sft.Config().cannot_keep(AdapterConfig(method="full")) == ""
    assert sft.Config(keep_checkpoints=1).cannot_keep(AdapterConfig()) == ""
