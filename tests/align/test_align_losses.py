"""What is minimised: every logged loss against a plain loop over tokens, one pair at a time."""

from __future__ import annotations

import math

import pytest
import torch

from preftrace import artifacts, models
from preftrace.align import dpo
from preftrace.models.losses import sft_loss
from preftrace.preferences import load_pairs

# The weights stay as they are to the last bit that a float32 loss can show.
FROZEN = {"learning_rate": 1e-30, "scheduler": "constant_with_warmup", "warmup": 0.0}


def naive_logp(lm, pair, answer):
    """Sum over tokens of log pi, one unpadded forward pass, and the number of tokens."""
    row = models.encode(lm.tokenizer, pair.prompt, answer, "raw")
    ids = torch.tensor([[*row.prompt_ids, *row.answer_ids]])
    with torch.no_grad():
        logps = lm.model(input_ids=ids).logits[0].double().log_softmax(-1)
    start = len(row.prompt_ids)
    return sum(float(logps[start + t - 1, token]) for t, token in enumerate(row.answer_ids)), len(row.answer_ids)


def naive_sft(lm, pair):
    logp, tokens = naive_logp(lm, pair, pair.chosen)
    return -logp / tokens


def naive_dpo(policy, reference, pair, beta):
    """-log sigmoid(beta D) and beta D."""
    difference = 0.0
    for sign, answer in ((1, pair.chosen), (-1, pair.rejected)):
        difference += sign * (naive_logp(policy, pair, answer)[0] - naive_logp(reference, pair, answer)[0])
    return math.log1p(math.exp(-beta * difference)), beta * difference


def curves(record):
    return artifacts.read_table(record.folder / "curves.parquet").to_pydict()


def test_sft_loss_of_every_pair_is_the_mean_over_its_own_tokens(stage, toy, tiny):
    record = stage("sft", toy, batch_size=1, **FROZEN)
    expected = sorted(naive_sft(tiny, pair) for pair in load_pairs(toy, "train"))
    assert sorted(curves(record)["loss"]) == pytest.approx(expected, rel=1e-5)


def test_every_pair_weighs_the_same_in_a_step_of_unequal_batches(stage, toy, tiny):
    """11 pairs as 4 + 4 + 3 in one step: the mean of the three batches' means would weigh the last three more."""
    record = stage("sft", toy, batch_size=4, gradient_accumulation=3, **FROZEN)
    losses = [naive_sft(tiny, pair) for pair in load_pairs(toy, "train")]
    assert curves(record)["loss"] == pytest.approx([sum(losses) / 11], rel=1e-6)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_accumulated_gradients_are_those_of_one_large_batch(stage, toy, kind):
    settings = {"learning_rate": 1e-3, "warmup": 0.0, "scheduler": "constant_with_warmup", "max_grad_norm": 0.0}
    split = stage(kind, toy, name="split", batch_size=4, gradient_accumulation=3, **settings)
    whole = stage(kind, toy, name="whole", batch_size=11, **settings)
    assert split.summary["steps"] == whole.summary["steps"] == 1
    one, other = (artifacts.read_tensors(r.folder / "adapter" / "adapter_model.safetensors") for r in (split, whole))
    moved = sum(float(abs(value).sum()) for name, value in one.items() if "lora_B" in name)
    assert moved > 0
    for name in one:
        assert one[name] == pytest.approx(other[name], abs=1e-5), name


def test_dpo_starts_at_log_two_and_then_follows_the_formula(stage, toy):
    """The second step's loss against the checkpoint that one step gives: same rate, same first step, one batch."""
    settings = {"batch_size": 11, "learning_rate": 1e-3, "scheduler": "constant_with_warmup", "warmup": 0.0}
    base = stage("sft", toy, learning_rate=1e-2, epochs=3)
    start = models.read_checkpoint(base.folder)
    one = stage("dpo", toy, name="one", start=start, beta=0.3, **settings)
    two = stage("dpo", toy, name="two", start=start, beta=0.3, epochs=2, **settings)
    policy, reference = models.load(models.read_checkpoint(one.folder)), models.load(start, merge=True)
    losses, margins = zip(*(naive_dpo(policy, reference, p, 0.3) for p in load_pairs(toy, "train")), strict=True)
    found = curves(two)
    assert found["loss"][0] == pytest.approx(math.log(2), abs=1e-5)
    assert found["loss"][1] == pytest.approx(sum(losses) / 11, rel=1e-4)
    assert found["reward_margin"][1] == pytest.approx(sum(margins) / 11, rel=1e-3)
    assert found["reward_accuracy"][1] == pytest.approx(sum(m > 0 for m in margins) / 11)
    assert found["chosen_reward"][1] - found["rejected_reward"][1] == pytest.approx(found["reward_margin"][1], abs=1e-5)


def test_held_out_numbers_are_those_of_the_finished_model(stage, toy, tiny):
    trained = stage("sft", toy, learning_rate=1e-2)
    start = models.read_checkpoint(trained.folder)
    pairs = load_pairs(toy, "holdout")
    held = trained.summary["holdout"]
    assert held["n"] == 3
    assert held["loss_before"] == pytest.approx(sum(naive_sft(tiny, p) for p in pairs) / 3, rel=1e-5)
    assert held["loss"] == pytest.approx(sum(naive_sft(models.load(start), p) for p in pairs) / 3, rel=1e-5)
    record = stage("dpo", toy, start=start, learning_rate=1e-3, epochs=2)
    policy, reference = models.load(models.read_checkpoint(record.folder)), models.load(start)
    losses, margins = zip(*(naive_dpo(policy, reference, p, 0.1) for p in pairs), strict=True)
    held = record.summary["holdout"]
    assert held["loss"] == pytest.approx(sum(losses) / 3, rel=1e-4)
    assert held["reward_margin"] == pytest.approx(sum(margins) / 3, rel=1e-3)
    assert held["reward_accuracy"] == pytest.approx(sum(m > 0 for m in margins) / 3)


def test_pair_losses_by_hand():
    """-(-6)/3 = 2 nats a token. D = (-1 - -2) - (-4 - -3) = 2; beta D = 1; -log sigmoid(1) = 0.313262."""
    assert sft_loss(torch.tensor([-6.0]), torch.tensor([3])).tolist() == [2.0]
    found = dpo.pair_terms(torch.tensor([[-1.0, -4.0]]), torch.tensor([[-2.0, -3.0]]), beta=0.5)
    assert found.loss.tolist() == pytest.approx([0.313262], abs=1e-6)
    assert (found.chosen_reward.item(), found.rejected_reward.item()) == (0.5, -0.5)


def test_dpo_loss_of_a_huge_margin_is_finite():
    found = dpo.pair_terms(torch.tensor([[-1e5, 0.0]]), torch.zeros(1, 2), beta=0.1)
    assert found.loss.tolist() == [1e4]
