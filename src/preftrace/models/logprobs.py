"""Log-probabilities of given answers: batched, sorted by length, logits only from the first answer token on."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from preftrace.models.loading import LanguageModel
from preftrace.models.prompts import Encoded

IGNORED = -100


def answer_logprobs(lm: LanguageModel, rows: Sequence[Encoded], temperature: float = 1.0) -> torch.Tensor:
    """Sum over answer tokens of log pi(token | before), one forward pass for all rows. Differentiable.

    Args:
        lm: the model.
        rows: n prompts and answers.
        temperature: the logits are divided by it, as when sampling.

    Returns:
        `(n,)`, at most 0, in float32 (float64 for a float64 model).
    """
    ids, mask, labels = _pad(rows, lm.pad_id)
    first = min(len(row.prompt_ids) for row in rows) - 1
    logits = _logits(lm, ids.to(lm.device), mask.to(lm.device), first)
    targets = labels[:, first + 1 :].to(lm.device)
    logits = logits[:, : targets.shape[1]]
    wide = logits if logits.dtype == torch.float64 else logits.float()
    # The flattened form: with the classes in dimension 1 the CPU kernel is several times slower and less exact.
    losses = F.cross_entropy(
        wide.reshape(-1, wide.shape[-1]) / temperature, targets.reshape(-1), ignore_index=IGNORED, reduction="none"
    )
    return -losses.reshape(targets.shape).sum(1)


def completion_logprobs(
    lm: LanguageModel, rows: Sequence[Encoded], *, temperature: float = 1.0, batch_tokens: int = 512
) -> np.ndarray:
    """Sum over answer tokens of log pi, for any number of rows, without gradients.

    Args:
        lm: the model.
        rows: n prompts and answers.
        temperature: the logits are divided by it.
        batch_tokens: padded tokens in one forward pass, at most (a longer row goes alone).

    Returns:
        `(n,)` float64, in the order of `rows`.
    """
    result = np.full(len(rows), np.nan)
    for batch in length_batches([len(r.prompt_ids) + len(r.answer_ids) for r in rows], batch_tokens):
        with torch.inference_mode(), lm.autocast():
            values = answer_logprobs(lm, [rows[i] for i in batch], temperature)
        result[batch] = values.double().cpu().numpy()
    return result


def length_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of like length, longest first, whose padded size is at most `batch_tokens`."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _pad(rows: Sequence[Encoded], pad_id: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = max(len(r.prompt_ids) + len(r.answer_ids) for r in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for i, row in enumerate(rows):
        length = len(row.prompt_ids) + len(row.answer_ids)
        ids[i, :length] = torch.tensor(row.prompt_ids + row.answer_ids)
        mask[i, :length] = 1
        labels[i, len(row.prompt_ids) : length] = torch.tensor(row.answer_ids)
    return ids, mask, labels


def _logits(lm: LanguageModel, ids: torch.Tensor, mask: torch.Tensor, first: int) -> torch.Tensor:
    base = lm.model.get_base_model() if "get_base_model" in dir(lm.model) else lm.model
    if "logits_to_keep" not in inspect.signature(base.forward).parameters:
        logits: torch.Tensor = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return logits[:, first:]
    keep = torch.arange(first, ids.shape[1], device=ids.device)
    kept: torch.Tensor = lm.model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=keep).logits
    return kept
