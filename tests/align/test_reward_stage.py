"""The reward stage: its loss by hand, what it learns and leaves, and that a kill changes nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from preftrace import artifacts, models
from preftrace.align import _guard
from preftrace.errors import DataError
from preftrace.models.losses import reward_loss
from preftrace.preferences import load_pairs

FROZEN = {"learning_rate": 1e-30, "scheduler": "constant_with_warmup", "warmup": 0.0}


def tensors(*rows):
    return [torch.tensor(row, dtype=torch.float64) for row in rows]


def test_the_loss_by_hand():
    """Rewards 2 and 1, margin 0.5: D = 0.5, softplus(-0.5) = 0.474077, softplus(0.5) = 0.974077, (2 + 1)^2 = 9."""
    chosen, rejected, margin = tensors([2.0], [1.0], [0.5])
    assert reward_loss(chosen, rejected, margin).item() == pytest.approx(0.4740769842)
    smoothed = 0.9 * 0.4740769842 + 0.1 * 0.9740769842
    assert reward_loss(chosen, rejected, margin, smoothing=0.1).item() == pytest.approx(smoothed)
    assert reward_loss(chosen, rejected, margin, centring=0.01).item() == pytest.approx(0.4740769842 + 0.09)


def test_the_loss_and_its_gradient_hold_for_huge_gaps():
    """A gap of 1e4 either way, in float32: loss 0 or 1e4, slope 0 or -1."""
    chosen = torch.tensor([1e4, 0.0], requires_grad=True)
    losses = reward_loss(chosen, torch.tensor([0.0, 1e4]), torch.zeros(2))
    assert losses.tolist() == [0.0, 1e4]
    losses.sum().backward()
    assert chosen.grad.tolist() == [0.0, -1.0]


def test_the_logged_loss_is_the_pairs_own(stage, toy, tiny):
    """Each row by itself, read at its last token, from the head of the stage's seed."""
    record = stage("reward", toy, batch_size=1, seed=3, **FROZEN)
    rm = models.to_reward_model(tiny, seed=3)
    expected = []
    for pair in load_pairs(toy, "train"):
        rows = [models.encode(tiny.tokenizer, pair.prompt, answer, "raw") for answer in (pair.chosen, pair.rejected)]
        gap = float(models.row_rewards(rm, rows[:1])[0] - models.row_rewards(rm, rows[1:])[0])
        expected.append(math.log1p(math.exp(-gap)))
    logged = artifacts.read_table(record.folder / "curves.parquet")["loss"].to_pylist()
    assert sorted(logged) == pytest.approx(sorted(expected), rel=1e-4)


def test_it_learns_a_preference_and_says_how_well_on_held_out_pairs(stage, toy, tiny_folder):
    record = stage("reward", toy, epochs=8, learning_rate=2e-2)
    found = record.summary["holdout"]
    assert found["n"] == 3 and found["reward_accuracy"] == 1.0 and found["reward_margin"] > 1
    low, high = found["reward_accuracy_interval"]
    assert (low, high) == pytest.approx((0.4385, 1.0), abs=1e-4)  # Wilson's interval of 3 out of 3
    rows = artifacts.read_table(record.folder / "holdout.parquet").to_pylist()
    assert [row["pair_id"] for row in rows] == [pair.id for pair in load_pairs(toy, "holdout")]
    rm = models.load_reward(models.read_checkpoint(record.folder))
    pair = load_pairs(toy, "holdout")[0]
    row = models.encode(rm.tokenizer, pair.prompt, pair.chosen, "raw")
    assert models.row_rewards(rm, [row])[0] == pytest.approx(rows[0]["chosen_reward"], abs=1e-4)


def test_a_full_reward_model_is_saved_whole(stage, toy):
    record = stage("reward", toy, method="full", epochs=2)
    rm = models.load_reward(models.read_checkpoint(record.folder))
    assert rm.model.config.num_labels == 1
    assert record.summary["trainable_parameters"] == sum(p.numel() for p in rm.model.parameters())


def test_a_margin_column_is_asked_for_and_a_missing_one_is_told(stage, toy, write, tmp_path):
    pairs = [replace(pair, meta={"strength": 1 + i % 3}) for i, pair in enumerate(load_pairs(toy, "train")[:4])]
    folder = write(tmp_path / "with_meta", pairs)
    plain = stage("reward", folder, name="plain", batch_size=4, **FROZEN).summary["first_loss"]
    asked = stage("reward", folder, name="asked", batch_size=4, margin="strength", **FROZEN).summary["first_loss"]
    assert asked > plain + 0.2
    with pytest.raises(DataError, match="has no number under 'weight' in its meta, but None"):
        stage("reward", folder, name="none", margin="weight")


def test_a_crash_and_a_second_run_equal_one_run(stage, toy, monkeypatch):
    """9 steps, a save after every second one, a crash in step 6: adapter, head, curves and held-out rewards equal."""
    settings = {"save_steps": 2, "epochs": 3}
    whole = stage("reward", toy, name="whole", **settings)
    check = _guard.Guard.check

    def crash(self, step, logs):
        if step == 6:
            raise KeyboardInterrupt
        check(self, step, logs)

    monkeypatch.setattr(_guard.Guard, "check", crash)
    with pytest.raises(KeyboardInterrupt):
        stage("reward", toy, name="torn", **settings)
    monkeypatch.undo()
    torn = stage("reward", toy, name="torn", **settings)
    assert torn.outputs == whole.outputs and torn.summary == whole.summary
