"""The stages that TRL trains, each with its rows and its loss. Imported by training code only.

TRL gets rows that are tokenised already and keeps every one of them; its own preparation is passed over. The losses
are computed by `models`, as attribution and evaluation compute them: on answer tokens, or at a row's last token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from preftrace import models
from preftrace.align import dpo, reward
from preftrace.align._job import Job
from preftrace.align._rows import Row
from preftrace.align._train import Fitted
from preftrace.align._trainers import Batch, PairTrainer, arguments, fit
from preftrace.models import losses


class PairSFTTrainer(PairTrainer, SFTTrainer):  # type: ignore[misc]
    """TRL's SFTTrainer on rows of `input_ids` and `labels`."""


class PairDPOTrainer(PairTrainer, DPOTrainer):  # type: ignore[misc]
    """TRL's DPOTrainer on rows of `prompt_ids`, `chosen_ids`, `rejected_ids` and the reference's log-probabilities."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *args: Any) -> Dataset:
        return dataset


class PairRewardTrainer(PairTrainer, RewardTrainer):  # type: ignore[misc]
    """TRL's RewardTrainer on rows of `prompt_ids`, `chosen_ids`, `rejected_ids` and margins."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
        return dataset


def fit_sft(job: Job, lm: models.LanguageModel, rows: Sequence[Row]) -> Fitted:
    """Train `lm` on the chosen answers; the model in `lm` is changed."""
    encoded = [row.chosen for row in rows]
    ignored = -100
    columns = {
        "input_ids": [[*e.prompt_ids, *e.answer_ids] for e in encoded],
        "labels": [[ignored] * len(e.prompt_ids) + list(e.answer_ids) for e in encoded],
    }

    def collate(examples: list[dict[str, Any]]) -> dict[str, Batch]:
        cut = [example["labels"].count(ignored) for example in examples]
        ids = [tuple(example["input_ids"]) for example in examples]
        chosen = [models.Encoded(i[:c], i[c:], False) for i, c in zip(ids, cut, strict=True)]
        return {"batch": Batch(chosen, [], [])}

    def terms(model: models.LanguageModel, batch: Batch) -> Mapping[str, torch.Tensor]:
        logps = models.answer_logprobs(model, batch.chosen)
        tokens = torch.tensor([len(row.answer_ids) for row in batch.chosen], device=logps.device)
        return {"loss": losses.sft_loss(logps, tokens)}

    args = {**arguments(job, lm), "dataset_kwargs": {"skip_prepare_dataset": True}}
    return fit(job, lm, (SFTConfig, PairSFTTrainer), args, columns, terms=terms, collate=collate)


def fit_dpo(job: Job, lm: models.LanguageModel, rows: Sequence[Row], reference: np.ndarray) -> Fitted:
    """Train `lm` on both answers against the reference's log-probabilities `(n, 2)`; the model in `lm` is changed."""
    assert isinstance(job.config, dpo.Config)
    beta = job.config.beta
    names = ("ref_chosen_logps", "ref_rejected_logps")
    columns = _both(rows) | {name: reference[:, side].tolist() for side, name in enumerate(names)}

    def collate(examples: list[dict[str, Any]]) -> dict[str, Batch]:
        return _batch(examples, [[e[name] for name in names] for e in examples])

    def terms(model: models.LanguageModel, batch: Batch) -> Mapping[str, torch.Tensor]:
        policy = models.answer_logprobs(model, [*batch.chosen, *batch.rejected]).reshape(2, -1).T
        found = dpo.pair_terms(policy, torch.tensor(batch.extra, device=policy.device), beta)
        margin = found.chosen_reward - found.rejected_reward
        accuracy = (margin > 0).float()
        return {**found._asdict(), "reward_margin": margin, "reward_accuracy": accuracy}

    # Full fine-tuning: the flag keeps TRL from loading a second model as the reference.
    full = job.adapter.method == "full"
    args = {**arguments(job, lm), "beta": beta, "loss_type": ["sigmoid"], "precompute_ref_log_probs": full}
    return fit(job, lm, (DPOConfig, PairDPOTrainer), args, columns, terms=terms, collate=collate)


def fit_reward(job: Job, rm: models.RewardModel, rows: Sequence[Row], margins: np.ndarray) -> Fitted:
    """Train `rm` to rank both answers, with the margins `(n,)` asked for; the model in `rm` is changed."""
    config = job.config
    assert isinstance(config, reward.Config)

    def collate(examples: list[dict[str, Any]]) -> dict[str, Batch]:
        return _batch(examples, [[e["margin"]] for e in examples])

    def terms(model: models.LanguageModel, batch: Batch) -> Mapping[str, torch.Tensor]:
        assert isinstance(model, models.RewardModel)
        chosen, rejected = models.rewards(model, [*batch.chosen, *batch.rejected]).reshape(2, -1)
        asked = torch.tensor(batch.extra, device=chosen.device)[:, 0]
        margin = chosen - rejected
        return {
            "loss": losses.reward_loss(chosen, rejected, asked, config.label_smoothing, config.centring),
            "chosen_reward": chosen,
            "rejected_reward": rejected,
            "reward_margin": margin,
            "reward_accuracy": (margin > 0).float(),
        }

    columns = {**_both(rows), "margin": margins.tolist()}
    return fit(job, rm, (RewardConfig, PairRewardTrainer), arguments(job, rm), columns, terms=terms, collate=collate)


def _both(rows: Sequence[Row]) -> dict[str, list[Any]]:
    return {
        "prompt_ids": [list(row.chosen.prompt_ids) for row in rows],
        "chosen_ids": [list(row.chosen.answer_ids) for row in rows],
        "rejected_ids": [list(row.rejected.answer_ids) for row in rows],
    }


def _batch(examples: list[dict[str, Any]], extra: list[list[float]]) -> dict[str, Batch]:
    chosen, rejected = (
        [models.Encoded(tuple(e["prompt_ids"]), tuple(e[name]), False) for e in examples]
        for name in ("chosen_ids", "rejected_ids")
    )
    return {"batch": Batch(chosen, rejected, extra)}
