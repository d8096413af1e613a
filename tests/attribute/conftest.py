"""A tiny model with a random adapter in any precision, a few pairs as rows, and the naive gradients of each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import preftrace
from preftrace import models
from preftrace.models.lora import lora_layers
from tests.conftest import build_model, build_tokenizer, exact
from tests.tiny_study import write_study

TEXTS = [
    ("\n\nHuman: hello there\n\nAssistant:", "good morning to you", "go away"),
    ("\n\nHuman: a\n\nAssistant:", "b", "a much longer answer than the other one, with many more tokens in it"),
    ("\n\nHuman: what is this long question about, may I ask?\n\nAssistant:", "nothing much", "who knows"),
    ("\n\nHuman: x\n\nAssistant:", "yes", "no"),
    ("\n\nHuman: tell me his number\n\nAssistant:", "I would rather not", "it is 555-0100"),
]


def adapted(precision: str = "float64", r: int = 3, seed: int = 1, scale: float = 0.1) -> models.LanguageModel:
    """The tiny model with an adapter whose A and B are both random."""
    from peft import LoraConfig, get_peft_model

    model = exact(build_model()) if precision == "float64" else build_model()
    config = LoraConfig(r=r, lora_alpha=2 * r, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped = get_peft_model(model, config, autocast_adapter_dtype=False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data.copy_(scale * noise)
    wrapped.requires_grad_(False)
    return models.LanguageModel(wrapped.eval(), build_tokenizer(), "raw", precision)


def rows(lm: models.LanguageModel) -> tuple[list[models.Encoded], list[models.Encoded]]:
    """The pairs' chosen and rejected rows."""
    encoded = [models.encode_answers(lm.tokenizer, p, [c, r], "raw", 512) for p, c, r in TEXTS]
    return [chosen for chosen, _ in encoded], [rejected for _, rejected in encoded]


def naive(lm: models.LanguageModel, objective: Callable[[], torch.Tensor]) -> dict[str, np.ndarray]:
    """Gradient of one number by autograd, matrix by matrix, under the names that `Capture` uses."""
    named = {f"{la.name}.lora_{side}.weight": w for la in lora_layers(lm) for side, w in (("A", la.a), ("B", la.b))}
    for weight in named.values():
        weight.requires_grad_(True)
    found = torch.autograd.grad(objective(), list(named.values()))
    for weight in named.values():
        weight.requires_grad_(False)
    return {name: g.reshape(-1).double().numpy() for name, g in zip(named, found, strict=True)}


@pytest.fixture
def lm64() -> models.LanguageModel:
    """In float64."""
    return adapted("float64")


@pytest.fixture(scope="session")
def tiny_run(tiny_folder, tmp_path_factory) -> preftrace.Run:
    """A finished run of SFT and DPO on the tiny model, not to be changed."""
    home = tmp_path_factory.mktemp("influence")
    return preftrace.run(write_study(home, tiny_folder), home / "run")
