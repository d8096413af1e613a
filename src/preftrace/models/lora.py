"""The low-rank adapter of a loaded model, module by module: y = W x + s B A x (LoRA, arXiv 2106.09685)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from preftrace.errors import ModelError
from preftrace.models.loading import LanguageModel
from preftrace.models.reward import RewardModel

WHOLE = ("float32", "float64")
"""Precisions in which W + s B A holds all of the adapter."""


class LoraLayer(NamedTuple):
    """One adapted linear module.

    Attributes:
        name: the module's name in the starting model.
        module: the module whose input and output belong to both branches.
        a: `(r, d_in)`.
        b: `(d_out, r)`.
        scale: s = alpha / r (alpha / sqrt(r) where the adapter says so).
    """

    name: str
    module: torch.nn.Module
    a: torch.nn.Parameter
    b: torch.nn.Parameter
    scale: float


def trained_head(lm: LanguageModel) -> torch.nn.Linear | None:
    """The score head `(1, d)` that a reward model's adapter saves whole; None for a language model.

    Raises:
        ModelError: the reward model's head is not saved with its adapter.
    """
    if not isinstance(lm, RewardModel):
        return None
    wrapper: Any = lm.head
    saved = getattr(wrapper, "modules_to_save", None)
    if saved is None:
        raise ModelError("the reward model's head is not saved with an adapter: influence needs adapter.method lora")
    (adapter,) = wrapper.active_adapters
    head: torch.nn.Linear = saved[adapter]
    return head


def lora_layers(lm: LanguageModel) -> list[LoraLayer]:
    """Every adapted module of the model's one adapter, in the order of the model.

    Raises:
        ModelError: the model has no adapter, or one that has other trained tensors than the A and B of linear
            modules and a reward model's head (DoRA, biases, other saved modules, adapted embeddings), which this
            cannot differentiate.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from peft.tuners.lora import Linear

    if not isinstance(lm.model, PeftModel):
        raise ModelError("the model has no adapter on: influence needs a stage trained with adapter.method lora")
    (adapter,) = lm.model.active_adapters
    layers = [
        _layer(name, module, adapter)
        for name, module in lm.model.named_modules()
        if isinstance(module, Linear) and adapter in module.lora_A
    ]
    variants: list[Any] = [layer.module for layer in layers]
    odd = [layer.name for layer, module in zip(layers, variants, strict=True) if adapter in module.lora_variant]
    heads = 0 if trained_head(lm) is None else 1
    saved = get_peft_model_state_dict(lm.model)
    extra = len(saved) - 2 * len(layers) - heads
    if odd or extra or not layers:
        others = [name for name in saved if not name.endswith((".lora_A.weight", ".lora_B.weight"))]
        such = f", such as {others[0]}" if others else ""
        what = f"a LoRA variant in {odd[0]}" if odd else f"{extra} tensors that are not A or B of a linear module{such}"
        raise ModelError(f"the adapter has {what}; influence is defined here for plain LoRA on linear modules")
    return layers


@contextmanager
def folded(lm: LanguageModel, layers: Sequence[LoraLayer]) -> Iterator[None]:
    """Inside, W + s B A stands in the place of every W, so that a module is one product forward and one backward.

    For passes that form the gradients of A and B from the modules' inputs and outputs. It takes a second copy of the
    adapted weights. Nothing is done where a weight is of low precision, in which the adapter would be lost by
    rounding, is not a plain one (quantised), or is another module's too. Afterwards every weight is the tensor that it
    was.
    """
    uses = Counter(id(weight) for part in lm.model.modules() for weight in part.parameters(recurse=False))
    modules: list[Any] = [layer.module for layer in layers if lm.precision in WHOLE and _is_plain(layer.module, uses)]
    before = [module.get_base_layer().weight.data for module in modules]
    for module in modules:
        (adapter,) = module.active_adapters
        weight = module.get_base_layer().weight
        weight.data = weight.data + module.get_delta_weight(adapter).to(weight.dtype)
        module.merged_adapters = [adapter]
    try:
        yield
    finally:
        for module, weight in zip(modules, before, strict=True):
            module.get_base_layer().weight.data = weight
            module.merged_adapters = []


def _is_plain(module: Any, uses: Counter[int]) -> bool:
    weight = getattr(module.get_base_layer(), "weight", None)
    whole = type(weight) is torch.nn.Parameter and weight.dtype in (torch.float32, torch.float64)
    return whole and uses[id(weight)] == 1


def _layer(name: str, module: Any, adapter: str) -> LoraLayer:
    a, b = module.lora_A[adapter], module.lora_B[adapter]
    if b.bias is not None:
        raise ModelError(f"the adapter of {name} has a bias; influence is defined here for plain LoRA")
    plain = name.removeprefix("base_model.model.")
    return LoraLayer(plain, module, a.weight, b.weight, float(module.scaling[adapter]))
