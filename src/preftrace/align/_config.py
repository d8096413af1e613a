"""Settings that every training stage has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field

from preftrace.config import AdapterConfig, Config


class StageConfig(Config):
    """How a stage trains. The defaults suit LoRA on a small model with a few hundred short pairs.

    Class attribute `RATES` holds the learning rate that is used where none is set, for LoRA and for full fine-tuning.
    """

    model_config = ConfigDict(populate_by_name=True)
    SPEED: ClassVar[frozenset[str]] = frozenset({"save_steps", "report_to", "gradient_checkpointing"})
    RATES: ClassVar[dict[str, float]] = {"lora": 5e-4, "full": 5e-5}

    from_: str = Field("base", alias="from", description="the stage whose model this one starts from; base: none")
    epochs: float = Field(1.0, gt=0, description="passes over the pairs; a fraction stops part of the way")
    learning_rate: float | None = Field(
        None, gt=0, description="highest learning rate of AdamW; unset: the stage's default for lora or full"
    )
    batch_size: int = Field(8, ge=1, description="pairs in one forward and backward pass")
    gradient_accumulation: int = Field(1, ge=1, description="passes before the weights change")
    max_length: int = Field(512, ge=8, description="most tokens of prompt and answer; prompts are cut from the left")
    scheduler: Literal["linear", "cosine", "constant_with_warmup"] = Field(
        "linear", description="how the learning rate goes on after the warm-up"
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises from 0")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    max_grad_norm: float = Field(1.0, ge=0, description="longer gradients are scaled down to this norm; 0: never")
    bf16: bool = Field(False, description="bfloat16 matrix products (autocast); the weights stay float32")
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, about 20% slower")
    save_steps: int = Field(20, ge=1, description="steps between two saves, from which a killed run goes on")
    report_to: str | tuple[str, ...] = Field(
        "none", description="trackers that get every step: none, tensorboard, wandb, trackio, mlflow ..."
    )

    def needs(self) -> tuple[str, ...]:
        """Names of the stages of a study that must be done before this one."""
        return (self.from_,)

    def located(self, folders: Mapping[str, Path]) -> Self:
        """These settings with other stages of a study named by their folders."""
        return self

    def digests(self) -> dict[str, str]:
        """Content hashes of what this stage is made from besides its pairs and its checkpoint."""
        return {}

    def rate(self, adapter: AdapterConfig) -> float:
        """The learning rate in use."""
        return self.RATES[adapter.method] if self.learning_rate is None else self.learning_rate


class PairConfig(StageConfig):
    """How a stage learns from pairs."""

    keep_checkpoints: int = Field(
        0,
        ge=0,
        description="adapters kept from before the last step, at equal distances, for the influence method "
        "ensemble; lora only",
    )

    def cannot_keep(self, adapter: AdapterConfig) -> str:
        """Why checkpoints cannot be kept as these settings ask, or "" where they can."""
        wrong = self.keep_checkpoints > 0 and adapter.method == "full"
        return "whole models are not kept: it needs adapter.method lora" if wrong else ""

    def identity(self) -> dict[str, Any]:
        """The settings as JSON values; keeping nothing is no setting, so that it makes no stage anew."""
        settings = super().identity()
        return settings if self.keep_checkpoints else {k: v for k, v in settings.items() if k != "keep_checkpoints"}
