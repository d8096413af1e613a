"""TRL's trainers with our rows, our pair-weighted losses, guards and marked saves. Imported by training code only.

What is particular to one stage is in `_fits.py`.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from trl.trainer.utils import disable_dropout_in_model

from preftrace import models, progress
from preftrace.align import _kept, _saves, _trackers
from preftrace.align._guard import Guard
from preftrace.align._job import Job
from preftrace.align._train import Fitted
from preftrace.models import adapters
from preftrace.models.reward import HEAD

COLUMNS = ("loss", "learning_rate", "grad_norm", "reward_margin", "reward_accuracy", "chosen_reward", "rejected_reward")


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one forward pass. Not a tuple, so that the trainer hands it on as it is."""

    chosen: list[models.Encoded]
    rejected: list[models.Encoded]
    extra: list[list[float]]
    """Of each pair: the reference's log-probabilities (DPO), or the margin it should have (reward model)."""


Terms = Callable[[models.LanguageModel, Batch], Mapping[str, torch.Tensor]]
"""Names and values of each pair, `(b,)`; `loss` is what is minimised, the others are logged."""


class Marked:
    """Steps are looked at before they are saved, and saves count by their mark; mixed in before a trainer."""

    _look: Callable[[dict[str, float]], None]

    def _drop_printer(self) -> None:
        handler = self.callback_handler  # type: ignore[attr-defined]
        handler.callbacks = [c for c in handler.callbacks if type(c).__name__ != "PrinterCallback"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step, then look at it before anything is saved."""
        super().log(logs, start_time)  # type: ignore[misc]
        if "loss" in logs:
            self._look(logs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        folder = Path(self.args.output_dir) / f"{_saves.PREFIX}{self.state.global_step}"  # type: ignore[attr-defined]
        self._add_to(folder)
        _saves.mark(folder)

    def _add_to(self, save: Path) -> None:
        """Write more files into a save before it is marked: none."""

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: the rows are not tensors here."""
        return 0

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: a save is a working file."""

    def _send_telemetry(self) -> None:
        pass


class PairTrainer(Marked):
    """What the trainers on pairs share; mixed in before a TRL trainer."""

    loss_is_scaled_for_ga = True

    def __init__(self, lm: models.LanguageModel, terms: Terms, step: Callable[[dict[str, float]], None], **kwargs: Any):
        self._lm, self._terms, self._look = lm, terms, step
        super().__init__(processing_class=lm.tokenizer, **kwargs)  # type: ignore[call-arg]
        self._drop_printer()

    def compute_loss(
        self, model: Any, inputs: dict[str, Batch], return_outputs: bool = False, num_items_in_batch: int | None = None
    ) -> torch.Tensor:
        """Sum of the pairs' losses over the number of pairs of the whole step: every pair weighs the same."""
        assert not return_outputs, "evaluation is ours, not the trainer's"
        terms = dict(self._terms(replace(self._lm, model=model), inputs["batch"]))
        loss = terms.pop("loss")
        for name, values in terms.items():
            self._metrics["train"][name].extend(values.detach().tolist())  # type: ignore[attr-defined]
        return loss.sum() / (num_items_in_batch or len(loss))

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Batch]], device: Any) -> int:
        return sum(len(sample["batch"].chosen) for sample in batch_samples)


def arguments(job: Job, lm: models.LanguageModel) -> dict[str, Any]:
    """Every setting that decides the result, said outright: TRL's defaults differ from transformers'."""
    config = job.config
    return {
        "output_dir": str(job.work / _saves.FOLDER),
        "num_train_epochs": config.epochs,
        "learning_rate": config.rate(job.adapter),
        "per_device_train_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation,
        "lr_scheduler_type": config.scheduler,
        "warmup_steps": config.warmup,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "optim": "adamw_torch",
        "seed": job.seed,
        "data_seed": job.seed,
        "max_length": None,
        "use_cpu": lm.device.type == "cpu",
        "bf16": config.bf16,
        "gradient_checkpointing": config.gradient_checkpointing,
        "report_to": config.report_to if isinstance(config.report_to, str) else list(config.report_to),
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": config.save_steps,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
    }


def fit(
    job: Job,
    lm: models.LanguageModel,
    trl: tuple[Callable[..., Any], Callable[..., Any]],
    arguments: dict[str, Any],
    columns: dict[str, list[Any]],
    *,
    terms: Terms,
    collate: Callable[[list[dict[str, Any]]], dict[str, Batch]],
) -> Fitted:
    """Train with TRL's pair of config and trainer class, going on from a killed run's last complete save."""
    resume = _saves.latest(job.work / _saves.FOLDER)
    data = Dataset.from_dict(columns)
    guard = Guard(job)
    lm.model.requires_grad_(True)  # merging left it off; LoRA turns it off again for all but the adapter
    done = _saves.step(resume) if resume else 0
    total = _steps(job, len(data))
    kept = _kept.kept_steps(job.config, total)
    with (
        warnings.catch_warnings(action="ignore", category=FutureWarning),
        tracker_folder(job),
        progress.bar(f"train {job.final.name}", total=total, done=done) as advance,
    ):

        def step(logs: dict[str, float]) -> None:
            at = trainer.state.global_step
            guard.check(at, logs)
            if at in kept:
                _kept.keep(job, trainer.model, at)
            advance()

        args = one_device(trl[0](**arguments))
        head = HEAD if isinstance(lm, models.RewardModel) else ""
        lora = adapters.lora_config(job.adapter, head) if job.adapter.method == "lora" else None
        shared = {"model": lm.model, "train_dataset": data, "data_collator": collate, "peft_config": lora}
        trainer = trl[1](lm, terms, step, args=args, **shared)
        assert len(trainer.train_dataset) == len(data), f"TRL kept {len(trainer.train_dataset)} of {len(data)} rows"
        disable_dropout_in_model(trainer.model)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    return Fitted(replace(lm, model=trainer.model.eval()), _curves(trainer.state.log_history), trainable)


def one_device(args: Any) -> Any:
    """The trainer's arguments, for one process on one device: TRL refuses torch's DataParallel."""
    if args.world_size == 1 and args.n_gpu > 1:
        args._n_gpu = 1
    return args


def _steps(job: Job, rows: int) -> int:
    batches = -(-rows // job.config.batch_size)
    return int(np.ceil(job.config.epochs * -(-batches // job.config.gradient_accumulation)))


def _curves(history: list[dict[str, float]]) -> pa.Table:
    """One row for each step; NaN where a stage does not have the measure. No clock times."""
    logs = [log for log in history if "loss" in log]
    names = [name for name in COLUMNS[:3] if logs] + [name for name in COLUMNS[3:] if any(name in log for log in logs)]
    columns = {"step": pa.array([int(log["step"]) for log in logs], pa.int64())}
    columns["epoch"] = pa.array([float(log["epoch"]) for log in logs], pa.float64())
    for name in names:
        columns[name] = pa.array([float(log.get(name, np.nan)) for log in logs], pa.float64())
    return pa.table(columns)


@contextlib.contextmanager
def tracker_folder(job: Job) -> Iterator[None]:
    """TensorBoard writes beside the stage, not into its working files, which are removed."""
    name = "TENSORBOARD_LOGGING_DIR"
    if name in os.environ:
        yield
        return
    os.environ[name] = _trackers.tensorboard_folder(job)
    try:
        yield
    finally:
        del os.environ[name]
