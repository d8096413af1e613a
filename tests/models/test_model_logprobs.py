"""Log-probabilities: the batched, padded, sorted way against one plain forward pass for each row."""

import itertools
import math

import numpy as np
import pytest
import torch

from preftrace import models
from preftrace.models.logprobs import BATCH_COST, length_batches
from preftrace.models.prompts import Encoded

ANSWERS = [("Hi there", "yes"), ("a", "a longer answer than that"), ("The quick brown fox jumps over", "no"), ("b", "")]


@pytest.fixture
def rows(tiny):
    return [models.encode(tiny.tokenizer, prompt, answer, "raw") for prompt, answer in ANSWERS]


def naive(lm, row, temperature=1.0):
    """One row, no padding, the chain rule token by token."""
    ids = torch.tensor([row.prompt_ids + row.answer_ids])
    with torch.no_grad():
        logps = (lm.model(ids).logits[0].double() / temperature).log_softmax(-1)
    first = len(row.prompt_ids)
    return sum(float(logps[first + i - 1, token]) for i, token in enumerate(row.answer_ids))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_batched_equals_one_row_at_a_time(tiny, rows, temperature):
    expected = [naive(tiny, row, temperature) for row in rows]
    found = models.completion_logprobs(tiny, rows, temperature=temperature)
    assert found.dtype == np.float64 and found.shape == (4,)
    assert found == pytest.approx(expected, rel=1e-5) and (found < 0).all()


@pytest.mark.parametrize("batch_tokens", [1, 40, 90, 2048])
def test_the_batch_size_does_not_change_the_values(tiny, rows, batch_tokens):
    expected = [naive(tiny, row) for row in rows]
    assert models.completion_logprobs(tiny, rows, batch_tokens=batch_tokens) == pytest.approx(expected, rel=1e-5)


def test_the_order_of_the_rows_is_the_order_of_the_values(tiny, rows):
    order = [2, 0, 3, 1]
    shuffled = models.completion_logprobs(tiny, [rows[i] for i in order])
    assert shuffled == pytest.approx(models.completion_logprobs(tiny, rows)[order], rel=1e-5)


def test_in_float64_the_two_ways_agree_to_twelve_digits(tiny_folder):
    lm = models.load(models_checkpoint(tiny_folder), precision="float64")
    rows = [models.encode(lm.tokenizer, prompt, answer, "raw") for prompt, answer in ANSWERS]
    assert models.completion_logprobs(lm, rows) == pytest.approx([naive(lm, row) for row in rows], rel=1e-12)


def models_checkpoint(folder):
    from preftrace.types import Checkpoint

    return Checkpoint(str(folder))


def test_probabilities_of_all_one_token_answers_sum_to_one(tiny):
    prompt = tuple(tiny.tokenizer("Hi")["input_ids"])
    rows = [Encoded(prompt, (token,), False) for token in range(258)]
    assert np.exp(models.completion_logprobs(tiny, rows)).sum() == pytest.approx(1, abs=1e-5)


def test_answer_logprobs_carry_a_gradient(tiny, rows):
    models.answer_logprobs(tiny, rows).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in tiny.model.parameters())


def test_no_rows_give_no_values(tiny):
    assert models.completion_logprobs(tiny, []).shape == (0,)


def test_batches_hold_every_row_once_within_the_padded_size():
    lengths = [3, 50, 7, 7, 200, 1]
    batches = list(length_batches(lengths, 60))
    assert sorted(i for batch in batches for i in batch) == list(range(6))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 60 for batch in batches)
    assert batches[0] == [4]


@pytest.mark.parametrize("seed", range(20))
def test_no_cut_into_batches_costs_less(seed):
    lengths = np.random.default_rng(seed).integers(1, 40, 9).tolist()
    ordered = sorted(lengths, reverse=True)

    def cost(cuts):
        """Of batches that start at these places of the ordered lengths; infinite where one is too large."""
        batches = [ordered[a:b] for a, b in itertools.pairwise([0, *cuts, len(ordered)])]
        fit = all(len(b) == 1 or len(b) * b[0] <= 120 for b in batches)
        return sum(len(b) * b[0] + BATCH_COST for b in batches) if fit else math.inf

    ways = itertools.chain.from_iterable(itertools.combinations(range(1, 9), k) for k in range(9))
    found = [[lengths[i] for i in batch] for batch in length_batches(lengths, 120)]
    assert [n for batch in found for n in batch] == ordered
    assert sum(len(b) * b[0] + BATCH_COST for b in found) == min(map(cost, ways))
