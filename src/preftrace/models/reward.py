"""Reward models: a backbone and a scalar head that reads the hidden state of a row's last token.

The head is transformers' own (`score` of a sequence classifier with one label), so that what is saved is a plain PEFT
adapter. The reading is ours: transformers looks for the last token that is not the padding token, which for the many
tokenizers that pad with the end token is the one *before* the end. Here it is always the row's last token, in
training, in scoring and in influence alike.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from preftrace.errors import ModelError
from preftrace.models.loading import LanguageModel, load, load_adapter
from preftrace.models.logprobs import row_batches
from preftrace.models.packing import Packed, backbone, inputs, keys_of, pack
from preftrace.models.prompts import Encoded
from preftrace.types import Checkpoint

HEAD = "score"
"""Name of the head in transformers' sequence classifiers of decoder models."""


class RewardModel(LanguageModel):
    """A sequence classifier with one output and no bias, or a PEFT model around one. It answers with a number."""

    __slots__ = ()

    @property
    def head(self) -> torch.nn.Module:
        """The linear layer `(1, d)` from a hidden state to the reward."""
        module: torch.nn.Module = getattr(self._classifier, HEAD)
        return module

    @property
    def _classifier(self) -> Any:
        from peft import PeftModel

        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    def hidden(self, packed: Packed) -> torch.Tensor:
        """Hidden states `(p, t, d)` after the last layer's norm."""
        states: torch.Tensor = backbone(self)(**inputs(self, packed), use_cache=False).last_hidden_state
        return states


def to_reward_model(lm: LanguageModel, seed: int) -> RewardModel:
    """A reward model on the backbone of `lm` (shared, not copied) with a head drawn from N(0, 1 / (d + 1)).

    That start of the head is Stiennon et al.'s (2020, arXiv 2009.01325, appendix B.1).

    Args:
        lm: a plain model, all adapters merged.
        seed: of the head.

    Raises:
        ModelError: transformers has no sequence classifier of this architecture with a plain linear head.
    """
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(lm.model.config)
    config.num_labels, config.pad_token_id = 1, lm.pad_id
    try:
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise ModelError(f"no reward model can be made of a {config.model_type} model: {error}") from error
    head = getattr(model, HEAD, None)
    if not isinstance(head, torch.nn.Linear) or head.bias is not None:
        raise ModelError(f"no reward model can be made of a {config.model_type} model: it has no linear '{HEAD}' head")
    setattr(model, model.base_model_prefix, getattr(lm.model, lm.model.base_model_prefix))
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(1, head.in_features, generator=generator) / math.sqrt(head.in_features + 1)
    fresh = torch.nn.Linear(head.in_features, 1, bias=False, device="meta")
    fresh.weight = torch.nn.Parameter(weight.to(lm.device, next(lm.model.parameters()).dtype))
    setattr(model, HEAD, fresh)
    return RewardModel(model.eval(), lm.tokenizer, lm.format, lm.precision)


def load_reward(checkpoint: Checkpoint, format: str = "raw", *, precision: str = "auto") -> RewardModel:
    """Load the reward model of a finished `reward` stage, its adapter on and its head in place.

    Args:
        checkpoint: the stage's: with an adapter, the last one is the reward model's and the ones before it are merged;
            without one, the model's folder holds a whole sequence classifier.
        format: prompt format.
        precision: as in `models.load`.

    Raises:
        ModelError: it cannot be loaded, or is no reward model.
    """
    if not checkpoint.adapters:
        return _load_whole(checkpoint.model, format, precision)
    start = Checkpoint(checkpoint.model, checkpoint.adapters[:-1])
    plain = to_reward_model(load(start, format, merge=True, precision=precision), seed=0)
    model = load_adapter(plain.model, checkpoint.adapters[-1], scores=True)
    if plain.precision == "float64":
        model = model.double()
    return RewardModel(model.eval(), plain.tokenizer, format, plain.precision)


def _load_whole(model: str, format: str, precision: str) -> RewardModel:
    from transformers import AutoModelForSequenceClassification

    lm = load(Checkpoint(model), format, precision=precision, auto=AutoModelForSequenceClassification)
    if lm.model.config.num_labels != 1:
        raise ModelError(f"{model} is no reward model: it has {lm.model.config.num_labels} labels, not one")
    return RewardModel(lm.model, lm.tokenizer, format, lm.precision)


def rewards(rm: RewardModel, rows: Sequence[Encoded], packed: Packed | None = None) -> torch.Tensor:
    """Reward r(x, y) of each row, read at its last token. Differentiable.

    Args:
        rm: the model.
        rows: n prompts and answers.
        packed: how the rows are laid out; None: rows with one prompt share it.

    Returns:
        `(n,)` real, higher is better, in float32 (float64 for a float64 model).
    """
    packed = (packed or pack(rows, keys_of(rm, rows), rm.pad_id)).to(rm.device)
    states = rm.hidden(packed)[packed.home, packed.last]
    values: torch.Tensor = rm.head(states)[:, 0]
    return values if values.dtype == torch.float64 else values.float()


def row_rewards(rm: RewardModel, rows: Sequence[Encoded], *, batch_tokens: int = 1024) -> np.ndarray:
    """`rewards` for any number of rows, without gradients: `(n,)` float64, in the order of `rows`."""
    result = np.full(len(rows), np.nan)
    for batch in row_batches(rm, rows, batch_tokens):
        with torch.inference_mode(), rm.autocast():
            result[batch] = rewards(rm, [rows[i] for i in batch]).double().cpu().numpy()
    return result
