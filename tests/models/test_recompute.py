"""Recomputed activations: the same numbers, less kept, and no dropout although layers are in training mode."""

import pytest
import torch

from preftrace import models
from preftrace.config import AdapterConfig
from preftrace.errors import ModelError
from preftrace.models import adapters
from tests.conftest import build_model

IDS = torch.arange(60).reshape(3, 20)


def gradients(model, layers):
    """Of a loss, and how many numbers were kept for the backward pass."""
    kept = []
    with (
        models.recomputing(layers),
        torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t),
    ):
        loss = model(input_ids=IDS).logits.square().mean()
        loss.backward()
    found = [p.grad for p in model.parameters() if p.requires_grad]
    model.zero_grad()
    return found, sum(tensor.numel() for tensor in kept)


@pytest.fixture
def dropping():
    """A model that would drop in training mode, with an adapter whose B is not zero."""
    model = adapters.attach(build_model(attention_dropout=0.5), AdapterConfig(r=4), seed=0).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.01)
    return model


def test_it_gives_the_same_gradients_and_keeps_less(dropping):
    plain, kept = gradients(dropping, [])
    layers = models.checkpointed_layers(dropping)
    recomputed, less = gradients(dropping, layers)
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True)) and len(plain) > 0
    assert less < 0.6 * kept
    assert not any(module.training for module in dropping.modules())
    assert gradients(dropping, [])[1] == kept, "it recomputes outside, too"


def test_a_drop_rate_of_a_layers_own_is_off(dropping):
    """Some models' layers drop by a function, which reads the layer's own mode."""
    layer = dropping.get_base_model().model.layers[0]
    layer.dropout = 0.3
    assert layer in models.checkpointed_layers(dropping)
    assert layer.dropout == 0.0


def test_a_model_that_cannot_is_the_users_error(dropping):
    dropping.get_base_model().supports_gradient_checkpointing = False
    with pytest.raises(ModelError, match="LlamaForCausalLM cannot recompute: use gradient_checkpointing: false"):
        models.checkpointed_layers(dropping)
