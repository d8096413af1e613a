"""How well an adapter stands for a tuned model: the same answers under both, and what is to be said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from preftrace import models
from preftrace.align._adapt_job import Job, write_table
from preftrace.align._rows import Row, encode_pair
from preftrace.align._train import logprobs
from preftrace.errors import DataError, ModelError
from preftrace.types import Checkpoint

NOISE = 1e-3
"""Nats: rounding alone may part two models' log-probabilities of an answer by less than this."""
CHECK = {
    **{"pair_id": "string", "answer": "string", "tokens": "int64"},
    **dict.fromkeys(("base", "adapter", "tuned"), "float64"),
}


class Texts(NamedTuple):
    """What the models are compared on, and whether the tuned model's own tokenizer makes the same tokens of it."""

    rows: list[Row]
    same_tokens: bool


def encode_texts(job: Job, positions: int | None) -> Texts:
    """The pairs as the base's tokenizer sees them, which is the one that goes with the adapter.

    Raises:
        DataError: no pair fits into `max_length`, nor into the models' `positions`.
    """
    most = min(job.config.max_length, positions or job.config.max_length)
    tokenizers = [models.load_tokenizer(name, job.config.format) for name in (job.base, job.tuned)]
    ours, theirs = (
        [encode_pair(tokenizer, pair, job.config.format, most) for pair in job.pairs] for tokenizer in tokenizers
    )
    rows = [row for row in ours if not row.reason]
    if not rows:
        raise DataError(f"none of the {len(ours)} pairs to compare on has answers of fewer than {most} tokens.")
    return Texts(rows, ours == theirs)


def compare(job: Job, rows: Sequence[Row]) -> dict[str, Any]:
    """Log-probabilities of every answer under base, base with adapter, and tuned model; the models in turn.

    Raises:
        ModelError: a model gives what is not finite.
    """
    import numpy as np

    answers = [answer for row in rows for answer in (row.chosen, row.rejected)]
    lm = models.load(Checkpoint(job.base, (str(job.work / "adapter"),)), job.config.format, precision="float32")
    adapted = logprobs(lm, answers, "log pi with the adapter")
    with lm.model.disable_adapter():
        before = logprobs(lm, answers, "log pi of the base")
    del lm
    tuned = logprobs(models.load(Checkpoint(job.tuned), precision="float32"), answers, "log pi of the tuned model")
    table = [
        {"pair_id": rows[i // 2].pair_id, "answer": ("chosen", "rejected")[i % 2], "tokens": len(answer.answer_ids)}
        | {"base": float(before[i]), "adapter": float(adapted[i]), "tuned": float(tuned[i])}
        for i, answer in enumerate(answers)
    ]
    write_table(job.work / "check.parquet", CHECK, table)
    if not np.isfinite([before, adapted, tuned]).all():
        raise ModelError(f"'{job.base}', its adapter or '{job.tuned}' gives log-probabilities that are not finite.")
    error, change = np.abs(adapted - tuned), np.abs(tuned - before)
    return {
        "answers": len(answers),
        "mean_error": float(error.mean()),
        "max_error": float(error.max()),
        "mean_change": float(change.mean()),
        "max_change": float(change.max()),
    }


def warnings(job: Job, summary: Mapping[str, Any], lost: Sequence[Mapping[str, Any]], same_tokens: bool) -> list[str]:
    """What a user must know before taking the adapter for the tuned model."""
    said, check, (before, after) = [], summary["check"], summary["dtypes"]
    if before != after:
        said.append(f"the base is stored in {before} and the tuned model in {after}: rounding is in the difference")
    if lost:
        first = lost[0]
        share = 1 - summary["kept_of_whole"] / summary["energy_kept"]
        said.append(
            f"{len(lost)} tensors that differ are in no adapter, with {share:.1%} of the squared change; the most is "
            f"in {first['tensor']} (norm {first['norm']:.3g} on {first['base_norm']:.3g}); see lost.parquet"
        )
    if not same_tokens:
        said.append(
            "the tuned model's tokenizer makes other tokens of the compared texts; the adapter goes with base's"
        )
    if check["mean_error"] > job.config.tolerance * check["mean_change"] + NOISE:
        said.append(
            f"the adapter does not reproduce the tuned model: log pi of an answer is off by {check['mean_error']:.3g} "
            f"nats on average, {check['max_error']:.3g} at most, where tuning changed it by "
            f"{check['mean_change']:.3g} on average; raise the rank ({job.config.rank})"
        )
    return said
