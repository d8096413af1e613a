"""Gradient checkpointing (arXiv 1604.06174) of a model that stays in evaluation mode, so that no dropout acts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from preftrace.errors import ModelError


def checkpointed_layers(model: Any) -> list[torch.nn.Module]:
    """Make a model's layers able to recompute their activations in the backward pass; `recomputing` makes them do it.

    transformers' layers recompute only in training mode. Drop rates that such a layer applies by itself are set to 0.

    Args:
        model: a transformers model in evaluation mode, with a PEFT adapter or without; it is changed.

    Returns:
        The modules whose mode decides.

    Raises:
        ModelError: the model cannot do it.
    """
    base = model.get_base_model()
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    except ValueError as error:
        raise ModelError(f"{type(base).__name__} cannot recompute: use gradient_checkpointing: false") from error
    # Only reentrant checkpointing needs embeddings that require gradients.
    base.disable_input_require_grads()
    layers = [module for module in base.modules() if getattr(module, "gradient_checkpointing", False)]
    for layer in layers:
        for name in [k for k, v in vars(layer).items() if "drop" in k and isinstance(v, float)]:
            setattr(layer, name, 0.0)
    return layers


@contextmanager
def recomputing(layers: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Inside, these layers recompute. They alone are in training mode, not the modules in them.

    Args:
        layers: of `checkpointed_layers`; none: nothing happens.
    """
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
