"""Adapters: from our settings to PEFT's, and from a trained model to two files that hold nothing of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preftrace import artifacts
from preftrace.config import AdapterConfig

if TYPE_CHECKING:
    import numpy as np

ADAPTER_NAME = "default"
TENSORS = "adapter_model.safetensors"
_TENSOR = re.compile(r"base_model\.model\.(.+?)(?:\.lora_[AB])?\.weight")


def lora_config(adapter: AdapterConfig, head: str = "") -> Any:
    """PEFT's settings of a LoRA adapter (arXiv 2106.09685): no dropout, no bias, B starts at zero.

    Args:
        adapter: rank, scale and targets.
        head: a sequence classifier's head, which is trained as a whole and saved with the adapter; empty: a language
            model, which has none.
    """
    from peft import LoraConfig

    targets = adapter.targets if isinstance(adapter.targets, str) else list(adapter.targets)
    scale: Any = adapter.alpha
    task = {"task_type": "SEQ_CLS", "modules_to_save": [head]} if head else {"task_type": "CAUSAL_LM"}
    return LoraConfig(r=adapter.r, lora_alpha=scale, target_modules=targets, **task)


def attach(model: Any, adapter: AdapterConfig, seed: int) -> Any:
    """Wrap a plain model with a fresh adapter whose A matrices are drawn from `seed`; the model itself is changed.

    Args:
        model: a transformers model without adapters.
        adapter: rank, scale and targets.
        seed: of the initial A matrices (B is zero, so that the wrapped model starts as the plain one).
    """
    import torch
    from peft import get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, lora_config(adapter))


def save_adapter(model: Any, folder: Path) -> None:
    """Write a model's adapter as `write_adapter` does."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, adapter_name=ADAPTER_NAME, save_embedding_layers=False)
    tensors = {name: tensor.detach().float().cpu().contiguous().numpy() for name, tensor in state.items()}
    write_adapter(folder, tensors, model.peft_config[ADAPTER_NAME])


def write_adapter(folder: Path, tensors: Mapping[str, np.ndarray], peft_settings: Any) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`.

    Not PEFT's own `save_pretrained`: that adds a model card and the base model's path on this machine, and lists the
    targets in the order of a set, so that equal adapters would give unequal files.

    Args:
        folder: where they go.
        tensors: the adapter's tensors under PEFT's names.
        peft_settings: PEFT's settings of the adapter.
    """
    artifacts.write_tensors(folder / TENSORS, dict(sorted(tensors.items())))
    settings = peft_settings.to_dict()
    settings.update(inference_mode=True, base_model_name_or_path=None, revision=None)
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in sorted(settings.items())}
    if isinstance(plain["target_modules"], list):
        plain["target_modules"] = sorted(plain["target_modules"])
    artifacts.write_json(folder / "adapter_config.json", plain)


def adapted_modules(folder: Path) -> list[str]:
    """Modules of the starting model that an adapter is on or that are saved with it, sorted; its tensors are not read.

    Args:
        folder: of the adapter. No names where it has no file of the form that `write_adapter` writes.
    """
    from safetensors import safe_open

    if not (folder / TENSORS).is_file():
        return []
    with safe_open(folder / TENSORS, "numpy") as file:
        found = [_TENSOR.fullmatch(name) for name in file.keys()]  # noqa: SIM118
    return sorted({match[1] for match in found if match})


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a whole model, with its tokenizer, as a folder that `load` takes as a model."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
