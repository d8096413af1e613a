"""Answers from shared prompts: token for token those of transformers' `generate` with a prompt for each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from preftrace import models
from preftrace.config import AdapterConfig
from preftrace.models import decode, generate
from preftrace.models.adapters import attach
from preftrace.types import Message, Sampling
from tests.conftest import build_model, build_tokenizer, exact

PROMPTS = [[5, 6, 7, 8], [9] * 11, [5, 6, 7, 8], [3]]
SEEDS = [[10 * i + j for j in range(3)] for i in range(4)]
ENDING = tuple(range(40))
"""Tokens that end an answer here: so many that most answers end at some step, each at its own."""


@pytest.fixture
def lm64():
    """The tiny model in float64: rounding cannot turn a draw."""
    return models.LanguageModel(exact(build_model()), build_tokenizer(), "raw", "float64")


def plain(lm, rows, sampling, seeds):
    """A prompt for each answer, as before there was any sharing."""
    repeated = [row for row in rows for _ in range(sampling.samples)]
    noise = generate._GumbelMax(sampling.temperature, [seed for own in seeds for seed in own[: sampling.samples]])
    with torch.inference_mode():
        found = generate._one_by_one(lm, repeated, sampling, noise)
    return [found[i : i + sampling.samples] for i in range(0, len(found), sampling.samples)]


def passes(lm, monkeypatch):
    """The shape of the tokens of each forward pass from now on."""
    lm.model(torch.tensor([[1]]))
    decode.continues(lm)
    shapes, forward = [], lm.model.forward
    monkeypatch.setattr(
        lm.model, "forward", lambda *a, input_ids, **k: shapes.append(tuple(input_ids.shape)) or forward(input_ids, **k)
    )
    return shapes


@pytest.mark.parametrize("temperature", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("ending", [(256,), ENDING])
def test_draws_are_those_of_the_plain_way(lm64, temperature, adapted, ending):
    lm = lm64
    if adapted:
        lm = replace(lm64, model=attach(lm64.model, AdapterConfig(r=2), 0).double())
        for name, weight in lm.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(1))
    lm.model.generation_config.eos_token_id = list(ending)
    sampling = Sampling(3, 12, temperature)
    assert decode.continues(lm)
    found = models.sample_ids(lm, PROMPTS, sampling, SEEDS)
    assert found == plain(lm, PROMPTS, sampling, SEEDS)
    lengths = {len(answer) for answers in found for answer in answers}
    assert (len(lengths) > 3) is (ending is ENDING and temperature > 0) or temperature == 0
    assert all(token not in (*ending, 256) for answers in found for answer in answers for token in answer[:-1])


def test_first_tokens_have_the_models_distribution(lm64):
    """Chi-square over the 12 likeliest tokens and the rest, 4,000 draws after one shared prompt."""
    n, temperature = 4000, 0.8
    drawn = models.sample_ids(lm64, [PROMPTS[0]], Sampling(n, 1, temperature), [list(range(n))])[0]
    with torch.no_grad():
        logits = lm64.model(torch.tensor([PROMPTS[0]])).logits[0, -1]

    def p_value(assumed):
        chances = (logits / assumed).softmax(-1)
        top = chances.topk(12).indices.tolist()
        seen = np.array([sum(answer[0] == token for answer in drawn) for token in top])
        wanted = n * chances[top].numpy()
        return stats.chisquare([*seen, n - seen.sum()], [*wanted, n - wanted.sum()]).pvalue

    assert p_value(temperature) > 1e-3
    assert p_value(temperature * 1.25) < 1e-6


def test_each_distinct_prompt_is_computed_once(lm64, monkeypatch):
    shapes = passes(lm64, monkeypatch)
    models.sample_ids(lm64, PROMPTS, Sampling(3, 4, 1.0), SEEDS)
    assert shapes[0] == (3, 11), "two of the four prompts are equal"
    assert shapes[1:] == [(12, 1)] * 3


def test_answers_that_end_leave_the_batch_and_the_last_ends_it(lm64, monkeypatch):
    lm64.model.generation_config.eos_token_id = list(ENDING)
    sampling = Sampling(3, 200, 1.0)
    shapes = passes(lm64, monkeypatch)
    found = models.sample_ids(lm64, PROMPTS, sampling, SEEDS)
    sizes = [rows for rows, _ in shapes[1:]]
    longest = max(len(answer) for answers in found for answer in answers)
    assert len(sizes) == longest - 1 < 199, "no pass after the last answer has ended"
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1]
    assert found == plain(lm64, PROMPTS, sampling, SEEDS)


def test_an_answer_that_says_its_stop_goes_on_no_further(lm64, monkeypatch):
    """The response is that of the whole draw cut afterwards, and less is drawn."""
    talk, sampling, seeds = (Message("user", "Hi"),), Sampling(8, 60, 3.0), [list(range(8))]
    prompt = lm64.tokenizer(models.render(talk, lm64.tokenizer, "raw"))["input_ids"]
    whole = models.sample_ids(lm64, [prompt], sampling, seeds)[0]
    letters = [token for token in whole[0][5:] if lm64.tokenizer.decode([token]).isalpha()]
    stop = lm64.tokenizer.decode(letters[:1])
    wanted = [generate._response(lm64, ids, stop) for ids in whole]
    monkeypatch.setattr(generate, "RAW_STOP", stop)
    drawn, real = [], generate._response
    monkeypatch.setattr(generate, "_response", lambda lm, ids, mark: drawn.append(len(ids)) or real(lm, ids, mark))
    assert models.sample(lm64, [talk], sampling, seeds)[0] == wanted
    assert drawn == [len(answer.ids) for answer in wanted] and sum(drawn) < sum(map(len, whole))


def test_a_stop_in_a_multi_byte_character_is_found_when_it_is_complete(lm64):
    ended = generate._Ended(lm64, ["", "é", "Human:"])
    ids = lm64.tokenizer("aé")["input_ids"]
    assert [ended(1, ids[:n]) for n in (1, 2, 3)] == [False, False, True]
    assert not ended(0, ids) and ended(0, [*ids, 256])
    assert ended(2, lm64.tokenizer("x\n\nHuman:")["input_ids"]) and not ended(2, lm64.tokenizer("Human")["input_ids"])


def test_a_model_that_cannot_is_told_and_draws_the_same(lm64, capsys, monkeypatch):
    wanted = models.sample_ids(lm64, PROMPTS, Sampling(2, 5, 1.0), SEEDS)
    lm = replace(lm64, model=exact(build_model()))
    monkeypatch.setattr(decode, "_cache", lambda lm: None)  # as of a model that has no such cache
    assert decode.continuing_error(lm) == float("inf") and not decode.continues(lm)
    assert "which is slower" in capsys.readouterr().err
    assert models.sample_ids(lm, PROMPTS, Sampling(2, 5, 1.0), SEEDS) == wanted
    assert capsys.readouterr().err == ""


def test_a_model_whose_continuation_is_off_is_found_out(lm64, monkeypatch):
    """One that does not look at the mask sees padding as text."""
    assert decode.continuing_error(lm64) < 1e-12
    forward = lm64.model.model.forward
    monkeypatch.setattr(lm64.model.model, "forward", lambda *a, attention_mask=None, **k: forward(*a, **k))
    assert 1e-3 < decode.continuing_error(lm64) < float("inf")
