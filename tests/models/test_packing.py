"""Answers that share their prompt: every number is that of the answer alone, whatever lies beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from preftrace import models
from preftrace.models import packing
from preftrace.models.logprobs import row_batches
from preftrace.models.prompts import Encoded
from tests.conftest import build_model, build_tokenizer, exact

PROMPT, OTHER = (5, 6, 7, 8, 9, 10), (11, 12)
ROWS = [
    Encoded(PROMPT, (20, 21, 22), False),
    Encoded(OTHER, (20, 21), False),
    Encoded(PROMPT, (30,), False),
    Encoded(PROMPT, (), False),
    Encoded(PROMPT, (40, 41, 42, 43, 44), False),
]


@pytest.fixture
def lm64():
    """The tiny model in float64, so that rounding is far below every tolerance here."""
    return models.LanguageModel(exact(build_model()), build_tokenizer(), "raw", "float64")


def alone(lm, row):
    """One row, no padding, no sharing: log-probabilities summed by hand."""
    ids = torch.tensor([row.prompt_ids + row.answer_ids])
    logps = lm.model(input_ids=ids).logits[0].log_softmax(-1)
    start = len(row.prompt_ids)
    return sum((logps[start + t - 1, token] for t, token in enumerate(row.answer_ids)), torch.zeros(()).double())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_shared_prompts_change_no_log_probability(lm64, attention, softmax64):
    lm64.model.set_attn_implementation(attention)
    packed = packing.pack(ROWS, packing.keys_of(lm64, ROWS), lm64.pad_id)
    assert packed.mask.ndim == 4 and len(packed.ids) < len(ROWS)
    found = models.answer_logprobs(lm64, ROWS)
    wanted = torch.stack([alone(lm64, row) for row in ROWS])
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)


def test_gradients_are_those_of_the_rows_alone(lm64):
    weights = list(lm64.model.parameters())
    found = torch.autograd.grad((models.answer_logprobs(lm64, ROWS) * torch.arange(5)).sum(), weights)
    wanted = torch.autograd.grad(sum(i * alone(lm64, row) for i, row in enumerate(ROWS)), weights)
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine - theirs).norm() <= 1e-10 * theirs.norm()


def test_an_answer_is_blind_to_the_one_beside_it(lm64):
    """To the bit: what it cannot see has no part in any sum but as an exact zero."""
    changed = [*ROWS[:-1], ROWS[-1]._replace(answer_ids=(99, 98, 97, 96, 95))]
    before, after = (models.answer_logprobs(lm64, rows) for rows in (ROWS, changed))
    torch.testing.assert_close(before[:-1], after[:-1], rtol=1e-12, atol=0)
    assert before[-1] != after[-1]


def test_rewards_are_read_at_each_answers_own_last_token(lm64):
    rm = models.to_reward_model(lm64, seed=2)
    found = models.row_rewards(rm, ROWS)
    wanted = [models.row_rewards(rm, [row])[0] for row in ROWS]
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=0)


def test_rows_of_different_groups_do_not_share(lm64):
    keys = packing.keys_of(lm64, ROWS, groups=[0, 1, 2, 2, 0])
    assert len(set(keys)) == 3 and keys[0] == keys[4] and keys[2] == keys[3]


def test_a_packed_row_is_at_most_twice_the_longest(lm64):
    many = [Encoded(PROMPT, (i,) * 4, False) for i in range(20, 30)]
    packed = packing.pack(many, packing.keys_of(lm64, many), lm64.pad_id)
    assert packed.ids.shape[1] <= 2 * 10 and len(packed.ids) > 1
    np.testing.assert_allclose(
        models.completion_logprobs(lm64, many), [alone(lm64, row).item() for row in many], rtol=1e-11
    )


def test_batches_keep_rows_of_one_prompt_together(lm64):
    rows = [row for i in range(6) for row in (Encoded((i, 1, 2), (3, 4), False), Encoded((i, 1, 2), (5,), False))]
    batches = list(row_batches(lm64, rows, batch_tokens=13))
    assert sorted(i for batch in batches for i in batch) == [*range(12)]
    assert all(batch.count(i) == batch.count(i ^ 1) for batch in batches for i in batch)
    assert max(len(batch) for batch in batches) == 4


def test_a_model_that_cannot_is_told_and_gives_the_same_numbers(tiny, capsys, monkeypatch):
    """A model that takes no positions gives other numbers where answers share: found out, said, and avoided."""
    lm = replace(tiny, model=build_model())
    inner = lm.model.model
    forward = inner.forward
    monkeypatch.setattr(inner, "forward", lambda *a, position_ids=None, **k: forward(*a, **k))
    assert not packing.shares_prompts(lm)
    assert "which is slower" in capsys.readouterr().err
    found = models.answer_logprobs(lm, ROWS).detach()
    wanted = torch.stack([alone(lm, row).detach().float() for row in ROWS])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
