"""A beginning that is computed once: every number is that of the whole row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from preftrace import models
from preftrace.models import packing, prefix
from preftrace.models.prompts import Encoded
from tests.conftest import build_model, build_tokenizer, exact

START = tuple(range(60, 100))
ROWS = [
    Encoded((*START, 5, 6), (20, 21, 22), False),
    Encoded((*START, 5, 6), (30,), False),
    Encoded((*START, 7), (40, 41), False),
    Encoded((1, 2, 3), (50, 51), False),
    Encoded(START, (52, 53), False),
    Encoded((*START, 5, 6), (), False),
]


@pytest.fixture
def lm64():
    """The tiny model in float64."""
    return models.LanguageModel(exact(build_model()), build_tokenizer(), "raw", "float64")


def alone(lm, row):
    """One row, nothing shared, no padding."""
    with torch.no_grad():
        logps = lm.model(torch.tensor([row.prompt_ids + row.answer_ids])).logits[0].double().log_softmax(-1)
    first = len(row.prompt_ids)
    return float(sum(logps[first + t - 1, token] for t, token in enumerate(row.answer_ids)))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("shared", [True, False])
def test_rows_go_on_from_it_with_the_same_log_probabilities(lm64, attention, shared, softmax64):
    """Those that do not start with it, or are it, are computed as a whole; also where answers do not share prompts."""
    lm64.model.set_attn_implementation(attention)
    setattr(lm64.model, packing.KNOWN, shared)
    start = models.compute_prefix(lm64, START)
    assert [start.starts(row) for row in ROWS] == [True, True, True, False, False, True]
    found = models.completion_logprobs(lm64, ROWS, start=start, batch_tokens=16)
    np.testing.assert_allclose(found, [alone(lm64, row) for row in ROWS], rtol=1e-11)


def test_its_tokens_are_computed_once(lm64, monkeypatch):
    rows = [Encoded((*START, i), (j,), False) for i in range(10) for j in range(3)]
    models.completion_logprobs(lm64, rows, start=models.compute_prefix(lm64, START))
    seen, forward = [], lm64.model.model.forward
    monkeypatch.setattr(
        lm64.model.model,
        "forward",
        lambda *a, input_ids, **k: seen.append(input_ids.numel()) or forward(input_ids, **k),
    )
    start = models.compute_prefix(lm64, START)
    assert seen == [len(START)]
    models.completion_logprobs(lm64, rows, start=start)
    assert sum(seen[1:]) == 10 * (1 + 3)


def test_a_batch_leaves_it_as_it_was(lm64):
    start = models.compute_prefix(lm64, START)
    first = models.completion_logprobs(lm64, ROWS, start=start)
    assert all(keys.shape[-2] == values.shape[-2] == len(START) for keys, values in start.layers)
    assert (models.completion_logprobs(lm64, ROWS, start=start) == first).all()


def test_a_model_that_cannot_is_told_and_gives_the_same_numbers(lm64, capsys, monkeypatch):
    """One that takes no mask of what comes before gives other numbers: found out, said once, and avoided."""
    assert prefix.opening_error(lm64) < 1e-12
    lm = replace(lm64, model=exact(build_model()))
    forward = lm.model.model.forward
    forgetful = lambda *a, past_key_values=None, **k: forward(*a, past_key_values=None, **k)  # noqa: E731
    monkeypatch.setattr(lm.model.model, "forward", forgetful)
    assert not prefix.opening_error(lm) < 1e-3
    assert models.compute_prefix(lm, START) is None and models.compute_prefix(lm, START) is None
    assert capsys.readouterr().err.count("which is slower") == 1
    monkeypatch.setattr(lm.model.model, "forward", forward)
    np.testing.assert_allclose(
        models.completion_logprobs(lm, ROWS, start=None), [alone(lm, row) for row in ROWS], rtol=1e-11
    )


@pytest.mark.parametrize("window", [64, 512])
def test_a_sliding_window_is_kept(window):
    """The window is longer than the few tokens on which sharing is tried, and shorter than the row, or not."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
        initializer_range=0.2,
    )
    lm = models.LanguageModel(MistralForCausalLM(config).eval(), build_tokenizer(), "raw")
    long = tuple(torch.randint(250, (90,), generator=torch.Generator().manual_seed(1)).tolist())
    rows = [Encoded((*long, i), (j, j + 1), False) for i in range(2) for j in range(3)]
    wanted = [alone(lm, row) for row in rows]
    shared = len(set(packing.keys_of(lm, rows)))
    assert shared == (2 if window > 100 else len(rows))
    np.testing.assert_allclose(models.completion_logprobs(lm, rows), wanted, rtol=1e-4)
    start = models.compute_prefix(lm, long)
    assert start is not None
    np.testing.assert_allclose(models.completion_logprobs(lm, rows, start=start), wanted, rtol=1e-4)
