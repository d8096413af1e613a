"""The training process: load the start, train, save. What `run_group` calls."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from preftrace import artifacts, models, progress
from preftrace.align._job import Job
from preftrace.registry import STAGES
from preftrace.types import Checkpoint

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

CHUNK = 64


class Fitted(NamedTuple):
    """A trained model (evaluation mode), its curves, and how many of its numbers were trained."""

    lm: models.LanguageModel
    curves: pa.Table
    trainable: int


class Trained(NamedTuple):
    """What a stage's `train` returns: the fit, what it was made from (counts), and its held-out numbers."""

    fitted: Fitted
    counts: dict[str, Any]
    holdout: dict[str, Any]


def run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Train the job that `settings` describe and write its files; returns the record's summary."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from preftrace.models import adapters

    job = Job.from_json(settings)
    stage = STAGES.load(job.kind)
    precision = "autocast" if job.config.bf16 else "float32"
    lm = models.load(job.checkpoint, job.format, merge=True, precision=precision)
    fitted, counts, holdout = stage.train(job, lm)
    artifacts.write_table(job.work / "curves.parquet", fitted.curves)
    if job.adapter.method == "lora":
        adapters.save_adapter(fitted.lm.model, job.work / "adapter")
        end = job.ending(job.final / "adapter")
    else:
        adapters.save_model(fitted.lm.model, fitted.lm.tokenizer, job.work / "model")
        end = Checkpoint(str((job.final / "model").resolve()))
    models.write_checkpoint(job.work, end, job.final)
    losses = fitted.curves["loss"].to_pylist()
    return {
        **counts,
        "steps": len(losses),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "holdout": holdout,
        "trainable_parameters": fitted.trainable,
        "learning_rate": job.config.rate(job.adapter),
        "loss": stage.LOSS,
    }


def logprobs(lm: models.LanguageModel, rows: Sequence[models.Encoded], label: str) -> np.ndarray:
    """`models.completion_logprobs` in chunks, with a progress bar."""
    import numpy as np

    starts = range(0, len(rows), CHUNK)
    parts = [np.empty(0)]
    with progress.bar(label, total=len(starts)) as advance:
        for start in starts:
            parts.append(models.completion_logprobs(lm, rows[start : start + CHUNK]))
            advance()
    return np.concatenate(parts)
