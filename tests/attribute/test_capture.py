"""Pair gradients by hooks against one autograd backward a pair: every matrix, any batch, padding and order."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from preftrace import models
from preftrace.attribute.capture import Capture
from preftrace.errors import ModelError
from preftrace.models.losses import dpo_loss, sft_loss
from tests.attribute.conftest import TEXTS, adapted, naive, rows
from tests.conftest import build_model, build_tokenizer

OFFSETS = torch.tensor([[1.0, -4.0], [0.5, 3.0], [-3.0, -1.0], [4.0, 2.0], [-6.0, 5.0]], dtype=torch.float64)
BETA = 0.2


@functools.cache
def references():
    """Fixed log-probabilities near the model's own, so that no pair's loss is saturated."""
    lm = adapted("float64")
    return torch.tensor(np.stack([models.completion_logprobs(lm, side) for side in rows(lm)], 1)) + OFFSETS


def dpo_objective(batch):
    reference = references()[batch]

    def objective(logprobs):
        ref = reference.to(logprobs.dtype)
        n = len(batch)
        return dpo_loss(logprobs[:n], logprobs[n:], ref[:, 0], ref[:, 1], BETA)

    return objective


def captured(lm, batch, loss):
    chosen, rejected = rows(lm)
    with Capture(lm) as capture:
        if loss == "dpo":
            both = [chosen[i] for i in batch] + [rejected[i] for i in batch]
            return capture.gradients(both, [*range(len(batch))] * 2, dpo_objective(batch))
        tokens = torch.tensor([len(chosen[i].answer_ids) for i in batch])
        alone = [chosen[i] for i in batch]
        return capture.gradients(alone, [*range(len(batch))], lambda lp: sft_loss(lp, tokens))


def expected(lm, i, loss):
    chosen, rejected = rows(lm)

    def objective():
        if loss == "sft":
            return sft_loss(models.answer_logprobs(lm, [chosen[i]]), torch.tensor([len(chosen[i].answer_ids)])).sum()
        pair = torch.cat([models.answer_logprobs(lm, [chosen[i]]), models.answer_logprobs(lm, [rejected[i]])])
        return dpo_objective([i])(pair).sum()

    return naive(lm, objective)


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-9), ("float32", 1e-4)])
@pytest.mark.parametrize("loss", ["sft", "dpo"])
@pytest.mark.parametrize("batches", [[[0, 1, 2, 3, 4]], [[0], [1], [2], [3], [4]], [[4, 1], [3, 0, 2]]])
def test_every_matrix_of_every_pair_equals_autograd(precision, tolerance, loss, batches):
    """Relative error in Frobenius norm; the autograd side never shares a batch, so it never pads."""
    lm = adapted(precision)
    worst = 0.0
    for batch in batches:
        found = captured(lm, batch, loss)
        assert len(found) == 2 * 7 * 2
        for position, i in enumerate(batch):
            for name, wanted in expected(lm, i, loss).items():
                error = np.linalg.norm(found[name][position].double().numpy() - wanted) / np.linalg.norm(wanted)
                worst = max(worst, error)
    assert worst <= tolerance


def test_no_gradient_is_zero_so_that_the_test_above_means_something(lm64):
    assert all((g.norm(dim=1) > 1e-12).all() for g in captured(lm64, [0, 1, 2, 3, 4], "dpo").values())


def test_a_module_that_is_used_twice_adds_up(lm64):
    """Both layers share one MLP: its gradient is the sum over both uses, as autograd has it."""
    layers = lm64.model.get_base_model().model.layers
    layers[1].mlp = layers[0].mlp
    found = captured(lm64, [0, 1], "dpo")
    for name, wanted in expected(lm64, 0, "dpo").items():
        assert np.linalg.norm(found[name][0].numpy() - wanted) <= 1e-9 * np.linalg.norm(wanted)


def test_hooks_are_gone_afterwards_and_weights_have_no_gradients(lm64):
    captured(lm64, [0], "sft")
    assert all(p.grad is None and not p.requires_grad for p in lm64.model.parameters())
    assert not any(m._forward_hooks for m in lm64.model.modules())


def test_temperature_is_part_of_the_log_probability(lm64):
    chosen, _ = rows(lm64)
    with Capture(lm64) as capture:
        found = capture.gradients([chosen[0]], [0], lambda lp: lp, temperature=0.7)
    wanted = naive(lm64, lambda: models.answer_logprobs(lm64, [chosen[0]], 0.7).sum())
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name][0].numpy(), value, rtol=1e-9, atol=1e-15)


def test_a_model_without_adapter_is_refused():
    lm = models.LanguageModel(build_model(), build_tokenizer(), "raw")
    with pytest.raises(ModelError, match="no adapter"):
        Capture(lm)


@pytest.mark.filterwarnings("ignore:.*lora_bias")
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"use_dora": True}, "a LoRA variant in .*q_proj"),
        ({"modules_to_save": ["lm_head"]}, r"such as .*lm_head\.weight"),
        ({"lora_bias": True}, "q_proj has a bias"),
    ],
)
def test_adapters_that_are_not_plain_lora_are_refused(settings, named):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", **settings)
    lm = models.LanguageModel(get_peft_model(build_model(), config).eval(), build_tokenizer(), "raw")
    with pytest.raises(ModelError, match=f"{named}.* plain LoRA"):
        Capture(lm)


def test_texts_have_very_different_lengths():
    """Or padding would not have been tested."""
    sizes = [len(p) + len(c) for p, c, _ in TEXTS]
    assert max(sizes) > 2 * min(sizes)


def test_the_adapter_is_folded_in_while_it_captures_and_the_weights_come_back_as_they_were(lm64):
    from preftrace.models.lora import lora_layers

    modules = [layer.module for layer in lora_layers(lm64)]
    before = [module.base_layer.weight.data for module in modules]
    chosen, _ = rows(lm64)
    plain = models.answer_logprobs(lm64, chosen).detach()
    with Capture(lm64):
        assert all(module.merged for module in modules)
        assert (modules[0].base_layer.weight != before[0]).any()
        torch.testing.assert_close(models.answer_logprobs(lm64, chosen).detach(), plain, rtol=1e-10, atol=1e-10)
    assert not any(module.merged for module in modules)
    assert all(module.base_layer.weight.data is not None for module in modules)
    for module, weight in zip(modules, before, strict=True):
        assert module.base_layer.weight.data.data_ptr() == weight.data_ptr()
    torch.testing.assert_close(models.answer_logprobs(lm64, chosen).detach(), plain, rtol=0, atol=0)
