"""Direct preference optimisation (arXiv 2305.18290, equation 7), through TRL's DPOTrainer.

Loss of one pair: -log sigmoid(beta D), with
D = [log pi(chosen) - log pi_ref(chosen)] - [log pi(rejected) - log pi_ref(rejected)],
log-probabilities summed over the answer's tokens, end token included. pi_ref is the model that the stage starts
from: with LoRA, the trained model with its adapter switched off. It is run once, before training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pydantic import Field

from preftrace.align._config import PairConfig

if TYPE_CHECKING:
    import numpy as np
    import torch

    from preftrace import models
    from preftrace.align._job import Job
    from preftrace.align._rows import Row
    from preftrace.align._train import Trained

VERSION = 2
POLICY = True
LOSS = "mean over pairs of -log sigmoid(beta D), log-probabilities summed over the answer's tokens"


class Config(PairConfig):
    """Settings of direct preference optimisation."""

    RATES: ClassVar[dict[str, float]] = {"lora": 2e-4, "full": 2e-5}

    from_: str = Field("sft", alias="from", description="the stage whose model this one starts from; base: none")
    beta: float = Field(0.1, gt=0, description="how strongly the model is held to the reference")


class Terms(NamedTuple):
    """Each pair's loss (nats, at least 0) and implicit rewards beta [log pi - log pi_ref], all `(b,)`."""

    loss: torch.Tensor
    chosen_reward: torch.Tensor
    rejected_reward: torch.Tensor


def pair_terms(policy: torch.Tensor, reference: torch.Tensor, beta: float) -> Terms:
    """Loss and rewards of each pair.

    Args:
        policy: `(b, 2)` log pi of the chosen and of the rejected answer, summed over tokens.
        reference: `(b, 2)` the same under the reference.
        beta: strength of the hold to the reference, above 0.
    """
    from preftrace.models.losses import dpo_loss

    rewards = beta * (policy - reference)
    loss = dpo_loss(policy[:, 0], policy[:, 1], reference[:, 0], reference[:, 1], beta)
    return Terms(loss, rewards[:, 0], rewards[:, 1])


def train(job: Job, lm: models.LanguageModel) -> Trained:
    """Train on all usable pairs; see `preftrace.align`. Writes `reference.parquet`: log pi_ref of the pairs."""
    import torch

    from preftrace.align import _fits, _rows, _train

    rows = _rows.prepare(job, lm)
    reference = _reference(job, lm, [*rows.train, *rows.holdout])
    count = len(rows.train)
    _write_reference(job, rows.train, reference[:count])
    fitted = _fits.fit_dpo(job, lm, rows.train, reference[:count])
    holdout: dict[str, float] = {}
    if rows.holdout:
        assert isinstance(job.config, Config)
        policy = _both(fitted.lm, rows.holdout, "held-out pairs after dpo")
        terms = pair_terms(torch.from_numpy(policy), torch.from_numpy(reference[count:]), job.config.beta)
        margin = terms.chosen_reward - terms.rejected_reward
        holdout = {
            "loss": float(terms.loss.mean()),
            "reward_margin": float(margin.mean()),
            "reward_accuracy": float((margin > 0).double().mean()),
        }
    return _train.Trained(fitted, rows.counts(), rows.held_out(**holdout))


def _reference(job: Job, lm: models.LanguageModel, rows: list[Row]) -> np.ndarray:
    """`(n, 2)` log pi_ref of both answers, computed once and kept for a run that is killed and goes on."""
    from preftrace import artifacts

    path = job.work / "_reference.safetensors"
    if not path.is_file():
        artifacts.write_tensors(path, {"logps": _both(lm, rows, "reference of dpo")})
    return artifacts.read_tensors(path)["logps"]


def _write_reference(job: Job, rows: list[Row], reference: np.ndarray) -> None:
    import pyarrow as pa

    from preftrace import artifacts

    columns = {"pair_id": [row.pair_id for row in rows], "chosen": reference[:, 0], "rejected": reference[:, 1]}
    artifacts.write_table(job.work / "reference.parquet", pa.table(columns))


def _both(lm: models.LanguageModel, rows: list[Row], label: str) -> np.ndarray:
    from preftrace.align import _train

    return _train.logprobs(lm, [answer for row in rows for answer in (row.chosen, row.rejected)], label).reshape(-1, 2)
