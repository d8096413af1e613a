"""Models from a checkpoint: the starting model, earlier adapters merged in, the last adapter left on."""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from preftrace.errors import ModelError
from preftrace.models.allocator import keep_freed_memory
from preftrace.models.checkpoints import locate
from preftrace.types import Checkpoint

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
FORMATS = ("raw", "chat")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "autocast": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal language model in evaluation mode, its tokenizer and the study's prompt format.

    Attributes:
        model: a transformers model, or a PEFT model whose one adapter is the last stage's.
        tokenizer: its tokenizer.
        format: `raw` or `chat`.
        precision: `float32`, `bfloat16`, `float64`, or `autocast` (float32 weights, bfloat16 matrix products).
    """

    model: Any
    tokenizer: Any
    format: str
    precision: str = "float32"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def pad_id(self) -> int:
        """The token that fills rows; masks say where, never the token's value."""
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    @property
    def context(self) -> float:
        """Most tokens of a prompt and its answer together; infinite where the model does not say."""
        most = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        found: float = most if most and most > 0 else math.inf
        return found

    def autocast(self) -> AbstractContextManager[Any]:
        """The context that forward passes run in."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "autocast" else nullcontext()


def load(
    checkpoint: Checkpoint,
    format: str = "raw",
    *,
    merge: bool = False,
    device: str = "auto",
    precision: str = "auto",
    auto: Any = None,
) -> LanguageModel:
    """Load a checkpoint for inference.

    Args:
        checkpoint: what to load.
        format: prompt format, `raw` or `chat`.
        merge: merge the last adapter too, so that the result is a plain model (where the next stage starts).
        device: `auto` (CUDA where there is one), or a torch device.
        precision: `auto` (bfloat16 on CUDA, float32 on the CPU), or one of `PRECISIONS`.
        auto: transformers class that reads the weights; a causal language model's where None.

    Raises:
        ModelError: the model or an adapter cannot be loaded, or has no chat template that `chat` needs.
    """
    keep_freed_memory()
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    chosen = ("bfloat16" if place.type == "cuda" else "float32") if precision == "auto" else precision
    if chosen not in PRECISIONS:
        raise ModelError(f"unknown precision '{chosen}'; known: auto, {', '.join(PRECISIONS)}")
    tokenizer = load_tokenizer(checkpoint.model, format)
    # Adapters are merged in float32 at least: rounded to bfloat16, what training changed would be lost.
    dtype = PRECISIONS[chosen]
    model = _load_weights(checkpoint.model, torch.float32 if dtype == torch.bfloat16 else dtype, auto).to(place)
    kept = () if merge else checkpoint.adapters[-1:]
    for adapter in checkpoint.adapters[: len(checkpoint.adapters) - len(kept)]:
        model = load_adapter(model, adapter).merge_and_unload()
    if dtype == torch.bfloat16:
        model = model.to(dtype)
    for adapter in kept:
        model = load_adapter(model, adapter)
    if chosen == "float64":
        # peft loads adapters in float32 whatever the weights are.
        model = model.double()
    return LanguageModel(model.eval(), tokenizer, format, chosen)


def load_tokenizer(model: str, format: str = "raw") -> Any:
    """Load a model's tokenizer.

    Raises:
        ModelError: it cannot be loaded, has no end-of-sequence token, or lacks the template that `chat` needs.
    """
    from transformers import AutoTokenizer

    source, revision = locate(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"cannot load the tokenizer of '{model}': {_first_line(error)}") from error
    if format not in FORMATS:
        raise ModelError(f"unknown prompt format '{format}'; known: {', '.join(FORMATS)}")
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of '{model}' has no end-of-sequence token, which training and sampling need")
    if format == "chat" and not tokenizer.chat_template:
        raise ModelError(
            f"format 'chat' needs a chat template and the tokenizer of '{model}' has none; use format: raw"
        )
    return tokenizer


def most_positions(model: str) -> int | None:
    """Most tokens of a row that a model takes, from its settings alone; None: they know no such limit.

    Raises:
        ModelError: its settings cannot be read.
    """
    from transformers import AutoConfig

    source, revision = locate(model)
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"cannot load the settings of '{model}': {_first_line(error)}") from error
    # GPT-2's own name of it is another, which its settings answer to as well, but not in `to_dict`.
    return getattr(config, "max_position_embeddings", None)


def _load_weights(model: str, dtype: torch.dtype, auto: Any) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    source, revision = locate(model)
    logging.disable_progress_bar()
    try:
        if auto is None and _is_classifier(source, revision):
            raise ModelError(f"'{model}' is a classifier or reward model, which gives no answers; name a policy")
        return (auto or AutoModelForCausalLM).from_pretrained(
            source, revision=revision, dtype=dtype, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load the model '{model}': {_first_line(error)}") from error


def load_adapter(model: Any, adapter: str, scores: bool = False) -> Any:
    """Put a saved adapter on a model.

    Args:
        model: a plain transformers model.
        adapter: folder of the adapter.
        scores: whether it is to be a reward model's, with its head, or a language model's.

    Raises:
        ModelError: it is not there, does not fit, or is of the other sort.
    """
    from peft import PeftConfig, PeftModel
    from safetensors import SafetensorError

    if not any(Path(adapter).glob("adapter_model*.safetensors")):
        raise ModelError(f"the adapter folder {adapter} has no adapter_model.safetensors")
    try:
        if (PeftConfig.from_pretrained(adapter).task_type == "SEQ_CLS") != scores:
            what = "has no reward head; name a reward stage's" if scores else "is a reward model's; name a policy's"
            raise ModelError(f"the adapter {adapter} {what}")
        return PeftModel.from_pretrained(model, adapter)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load the adapter {adapter}: {_first_line(error)}") from error


def _is_classifier(source: str, revision: str | None) -> bool:
    from transformers import AutoConfig

    names = AutoConfig.from_pretrained(source, revision=revision).architectures or []
    return any(name.endswith("ForSequenceClassification") for name in names)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
