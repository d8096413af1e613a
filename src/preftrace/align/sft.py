"""Supervised fine-tuning on the chosen answers, through TRL's SFTTrainer.

Loss of one pair: the mean over the chosen answer's tokens (its end token included) of -log pi(token | before).
Departure from TRL, whose loss is a mean over all tokens of a batch, so that a pair's weight grows with its length:
here every pair weighs the same, and the weight of a pair is what influence is about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from preftrace.align._config import PairConfig

if TYPE_CHECKING:
    from preftrace import models
    from preftrace.align._job import Job
    from preftrace.align._train import Trained

VERSION = 1
POLICY = True
LOSS = "mean over pairs of the mean over the chosen answer's tokens of -log pi(token | before)"


class Config(PairConfig):
    """Settings of supervised fine-tuning."""


def train(job: Job, lm: models.LanguageModel) -> Trained:
    """Train on the chosen answers of all usable pairs; see `preftrace.align`."""
    import numpy as np

    from preftrace.align import _fits, _rows, _train

    rows = _rows.prepare(job, lm, both=False)
    held = [row.chosen for row in rows.holdout]
    lengths = np.array([len(row.answer_ids) for row in held], dtype=float)
    before = _train.logprobs(lm, held, "held-out pairs before sft")
    fitted = _fits.fit_sft(job, lm, rows.train)
    holdout = {}
    if held:
        after = _train.logprobs(fitted.lm, held, "held-out pairs after sft")
        holdout = {"loss_before": float(np.mean(-before / lengths)), "loss": float(np.mean(-after / lengths))}
    return _train.Trained(fitted, rows.counts(), rows.held_out(**holdout))
