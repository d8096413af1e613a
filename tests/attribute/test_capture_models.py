"""Pair gradients of models that are built otherwise than Llama, against one autograd backward a pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from preftrace import models
from preftrace.attribute.capture import Capture
from preftrace.errors import ModelError
from tests.attribute.conftest import naive, rows
from tests.conftest import build_model, build_tokenizer

TOKENS = {"vocab_size": 258, "bos_token_id": None, "eos_token_id": 256, "pad_token_id": 257}
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def falcon():
    """Looks at the name of its attention by itself."""
    from transformers import FalconConfig, FalconForCausalLM

    return FalconForCausalLM(FalconConfig(**SIZES, **TOKENS, initializer_range=0.2))


def opt():
    """Its feed-forward modules are given the tokens of all rows one after the other."""
    from transformers import OPTConfig, OPTForCausalLM

    more = {"ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 512, "init_std": 0.2}
    return OPTForCausalLM(OPTConfig(**SIZES, **TOKENS, **more))


def olmo():
    """Cuts its queries, keys and values off in place."""
    from transformers import OlmoConfig, OlmoForCausalLM

    return OlmoForCausalLM(OlmoConfig(**SIZES, **TOKENS, intermediate_size=64, initializer_range=0.2, clip_qkv=0.5))


def wrapped(model, **settings):
    """With a random adapter."""
    from peft import LoraConfig, get_peft_model

    given = {"r": 3, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **settings}
    lora = get_peft_model(model.eval(), LoraConfig(**given))
    draw = torch.Generator().manual_seed(1)
    for name, parameter in lora.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
    return models.LanguageModel(lora.requires_grad_(False).eval(), build_tokenizer(), "raw")


def largest_error(lm):
    """Of the first three pairs' gradients of log pi(chosen) - log pi(rejected), relative, in one batch."""
    both = [row for pair in zip(*rows(lm), strict=True) for row in pair][:6]
    with Capture(lm) as capture:
        found = capture.gradients(both, [0, 0, 1, 1, 2, 2], lambda values: values[::2] - values[1::2])
    worst = 0.0
    for i in range(3):
        alone = [models.answer_logprobs, *both[2 * i : 2 * i + 2]]
        wanted = naive(lm, lambda a=alone: (a[0](lm, [a[1]]) - a[0](lm, [a[2]])).sum())
        for name, value in wanted.items():
            worst = max(worst, float(np.linalg.norm(found[name][i].numpy() - value) / np.linalg.norm(value)))
    return worst


@pytest.mark.parametrize("build", [falcon, opt, olmo])
def test_gradients_are_autograds(build):
    torch.manual_seed(0)
    assert largest_error(wrapped(build())) <= 1e-4


def test_layers_that_share_their_weights_keep_adapters_of_their_own():
    """PEFT's layer replication: the adapters of both copies would otherwise be folded into one weight."""
    lm = wrapped(build_model(), layer_replication=[[0, 2], [0, 2]])
    assert len(lm.model.get_base_model().model.layers) == 4
    assert largest_error(lm) <= 1e-4


def test_a_module_that_sees_some_tokens_only_is_named():
    """As an expert does: which tokens these are, no hook can tell."""
    model = build_model()
    mlp = model.model.layers[1].mlp
    forward = mlp.forward
    mlp.forward = lambda states: torch.cat([forward(states[:, :4]), states[:, 4:]], 1)
    lm = wrapped(model)
    row = rows(lm)[0][0]
    with Capture(lm) as capture, pytest.raises(ModelError, match=r"layers\.1\.mlp\..* is given 4 tokens"):
        capture.gradients([row], [0], lambda values: values)
