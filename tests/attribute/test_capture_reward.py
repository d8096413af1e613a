"""Gradients of the reward loss, score head included, against one autograd backward a pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from preftrace import models
from preftrace.attribute.capture import HEAD_NAME, Capture
from preftrace.errors import ModelError
from preftrace.models.lora import lora_layers, trained_head
from preftrace.models.losses import reward_loss
from tests.attribute.conftest import TEXTS, adapted, rows
from tests.conftest import build_model, build_tokenizer, exact

MARGINS = torch.tensor([0.0, 0.5, -0.3, 1.0, 0.2], dtype=torch.float64)
SETTINGS = {"plain": (0.0, 0.0), "smoothed and centred": (0.1, 0.05)}


def reward_model(precision: str = "float64", scale: float = 1.0) -> models.RewardModel:
    """The tiny model as a reward model whose adapter and head are random."""
    from peft import LoraConfig, get_peft_model

    model = exact(build_model()) if precision == "float64" else build_model()
    plain = models.LanguageModel(model, build_tokenizer(), "raw", precision)
    rm = models.to_reward_model(plain, seed=3)
    config = LoraConfig(r=3, lora_alpha=6, target_modules="all-linear", task_type="SEQ_CLS", modules_to_save=["score"])
    wrapped = get_peft_model(rm.model, config, autocast_adapter_dtype=False)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data.copy_(0.1 * noise)
    rm = replace(rm, model=wrapped.eval().requires_grad_(False))
    head = trained_head(rm)
    assert head is not None
    head.weight.data *= scale
    return rm


def captured(rm, batch, settings):
    chosen, rejected = rows(rm)
    both = [chosen[i] for i in batch] + [rejected[i] for i in batch]
    n = len(batch)

    def objective(values):
        return reward_loss(values[:n], values[n:], MARGINS[batch].to(values.dtype), *settings)

    with Capture(rm) as capture:
        return capture.gradients(both, [*range(n)] * 2, objective)


def expected(rm, i, settings):
    """By autograd, one pair alone, never padded."""
    chosen, rejected = rows(rm)
    named = {f"{la.name}.lora_{side}.weight": w for la in lora_layers(rm) for side, w in (("A", la.a), ("B", la.b))}
    named[HEAD_NAME] = trained_head(rm).weight
    for weight in named.values():
        weight.requires_grad_(True)
    better, worse = models.rewards(rm, [chosen[i]]), models.rewards(rm, [rejected[i]])
    loss = reward_loss(better, worse, MARGINS[[i]].to(better.dtype), *settings)
    found = torch.autograd.grad(loss.sum(), list(named.values()))
    for weight in named.values():
        weight.requires_grad_(False)
    return {name: g.reshape(-1).double().numpy() for name, g in zip(named, found, strict=True)}


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-9), ("float32", 1e-4)])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("batches", [[[0, 1, 2, 3, 4]], [[4, 1], [3, 0, 2]]])
def test_every_matrix_of_every_pair_equals_autograd_the_head_too(precision, tolerance, settings, batches):
    rm = reward_model(precision)
    for batch in batches:
        found = captured(rm, batch, settings)
        assert len(found) == 2 * 7 * 2 + 1
        for position, i in enumerate(batch):
            for name, wanted in expected(rm, i, settings).items():
                assert np.linalg.norm(wanted) > 0
                error = np.linalg.norm(found[name][position].double().numpy() - wanted) / np.linalg.norm(wanted)
                assert error <= tolerance, (name, i)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_gaps_of_ten_thousand_give_the_limits_of_the_gradient(precision):
    """softplus'(-D) goes to 1 where the worse answer is far above, to 0 where it is far below: never NaN."""
    rm = reward_model(precision)
    chosen, rejected = rows(rm)
    gap = models.row_rewards(rm, chosen) - models.row_rewards(rm, rejected)
    widened = reward_model(precision, scale=float(1e4 / np.abs(gap).min()))
    wide = models.row_rewards(widened, chosen) - models.row_rewards(widened, rejected)
    assert np.abs(wide).min() >= 0.99e4 and {True, False} == set((wide > 0).tolist())
    found = captured(widened, [0, 1, 2, 3, 4], (0.0, 0.0))
    for i, value in enumerate(wide):
        whole = np.concatenate([part[i].double().numpy() for part in found.values()])
        assert np.isfinite(whole).all()
        if value > 0:
            assert np.abs(whole).max() == 0
        else:
            for name, wanted in expected(widened, i, (0.0, 0.0)).items():
                error = np.linalg.norm(found[name][i].double().numpy() - wanted) / np.linalg.norm(wanted)
                assert error <= 1e-4, name


def test_a_language_model_has_no_head_and_a_plain_reward_model_is_refused():
    assert trained_head(adapted()) is None
    plain = models.LanguageModel(build_model(), build_tokenizer(), "raw", "float32")
    with pytest.raises(ModelError, match=r"adapter\.method lora"):
        Capture(models.to_reward_model(plain, seed=0))


def test_the_texts_have_gaps_of_both_signs():
    """What the test of wide gaps needs."""
    rm = reward_model()
    chosen, rejected = rows(rm)
    assert len(chosen) == len(TEXTS)
    assert {True, False} == set((models.row_rewards(rm, chosen) > models.row_rewards(rm, rejected)).tolist())
