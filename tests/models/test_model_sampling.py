"""Sampling: a draw is a function of the model, the prompt and its own seed, and has the model's distribution."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from preftrace import models
from preftrace.models.generate import _GumbelMax, _response, _until_end
from preftrace.types import Message, Sampling

HOT = Sampling(samples=2, max_new_tokens=8, temperature=1.0)
GREEDY = Sampling(samples=1, max_new_tokens=6, temperature=0.0)
PROMPTS = ["Hi", "A much longer prompt, so that the others are padded", "x"]
SEEDS = [[1, 2], [3, 4], [5, 6]]


def test_a_draw_repeats_for_its_seed_and_differs_for_another(tiny):
    first = models.sample(tiny, PROMPTS, HOT, SEEDS)
    assert first == models.sample(tiny, PROMPTS, HOT, SEEDS)
    assert len(first) == 3 and all(len(answers) == 2 for answers in first)
    assert all(a.ids != b.ids for a, b in first)
    assert models.sample(tiny, ["Hi"], HOT, [[1, 1]])[0][0] == models.sample(tiny, ["Hi"], HOT, [[1, 1]])[0][1]


def test_a_draw_does_not_depend_on_its_batch_mates(tiny):
    together = models.sample(tiny, PROMPTS, HOT, SEEDS)
    alone = [models.sample(tiny, [prompt], HOT, [seeds])[0] for prompt, seeds in zip(PROMPTS, SEEDS, strict=True)]
    assert alone == together
    order = [2, 0, 1]
    shuffled = models.sample(tiny, [PROMPTS[i] for i in order], HOT, [SEEDS[i] for i in order])
    assert shuffled == [together[i] for i in order]


def test_a_sample_does_not_depend_on_how_many_are_drawn(tiny):
    one = models.sample(tiny, PROMPTS, replace(HOT, samples=1), SEEDS)
    assert [a[0] for a in models.sample(tiny, PROMPTS, HOT, SEEDS)] == [a[0] for a in one]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_gumbel_max_draws_have_the_softmax_distribution(temperature):
    """Chi-square over 8 tokens and 20,000 draws: softmax(logits / T) is not refused, its neighbour is."""
    logits = torch.linspace(-1.5, 1.5, 8)
    n = 20_000
    draws = _GumbelMax(temperature, range(n))(torch.zeros(n, 1), logits.expand(n, -1)).argmax(-1)
    counts = np.bincount(draws.numpy(), minlength=8)
    expected = n * (logits.double() / temperature).softmax(-1).numpy()
    assert stats.chisquare(counts, expected).pvalue > 1e-3
    wrong = n * (logits.double() / (temperature * 1.1)).softmax(-1).numpy()
    assert stats.chisquare(counts, wrong).pvalue < 1e-6


def test_later_tokens_use_fresh_noise(tiny):
    processor = _GumbelMax(1.0, [7])
    logits = torch.zeros(1, 1000)
    assert processor(torch.zeros(1, 1), logits).argmax() != processor(torch.zeros(1, 2), logits).argmax()


def test_temperature_zero_takes_the_likeliest_token_each_time(tiny):
    found = models.sample(tiny, PROMPTS, GREEDY, [[0], [0], [0]])
    for prompt, (answer,) in zip(PROMPTS, found, strict=True):
        ids = tiny.tokenizer(prompt)["input_ids"]
        expected = []
        for _ in range(GREEDY.max_new_tokens):
            with torch.no_grad():
                expected.append(int(tiny.model(torch.tensor([ids + expected])).logits[0, -1].argmax()))
            if expected[-1] == tiny.tokenizer.eos_token_id:
                break
        assert answer.ids == tuple(expected)
    assert found == models.sample(tiny, PROMPTS, GREEDY, [[8], [9], [10]])


@pytest.mark.parametrize("adapted", [False, True])
def test_a_models_own_generation_settings_change_no_draw(tiny, adapted):
    """Many models carry a penalty or a cut of their own; the distribution is the model's own, or nothing holds."""
    from preftrace.config import AdapterConfig
    from preftrace.models.adapters import attach

    lm = replace(tiny, model=attach(tiny.model, AdapterConfig(r=2), 0)) if adapted else tiny
    plain = models.sample(lm, PROMPTS, HOT, SEEDS), models.sample(lm, PROMPTS, GREEDY, SEEDS)
    own = {"repetition_penalty": 50.0, "min_new_tokens": 8, "bad_words_ids": [[i] for i in range(60, 120)]}
    lm.model.generation_config.update(**own)
    assert (models.sample(lm, PROMPTS, HOT, SEEDS), models.sample(lm, PROMPTS, GREEDY, SEEDS)) == plain
    assert lm.model.generation_config.repetition_penalty == 50.0


def test_no_more_tokens_than_asked_for(tiny):
    answers = [a for row in models.sample(tiny, PROMPTS, HOT, SEEDS) for a in row]
    assert all(1 <= len(a.ids) <= 8 and (a.finished or len(a.ids) == 8) for a in answers)


def ids(lm, text):
    return lm.tokenizer(text)["input_ids"]


def test_an_answer_ends_at_the_end_token(tiny):
    end, pad = tiny.tokenizer.eos_token_id, tiny.pad_id
    kept = _until_end([*ids(tiny, " Yes. "), end, pad, pad], {end})
    assert kept == [*ids(tiny, " Yes. "), end]
    answer = _response(tiny, kept, "")
    assert answer == models.Response("Yes.", (*ids(tiny, " Yes. "), end), True)
    assert _response(tiny, ids(tiny, " Yes"), "") == models.Response("Yes", tuple(ids(tiny, " Yes")), False)


def test_a_raw_talk_ends_where_the_model_speaks_for_the_user(tiny):
    said = ids(tiny, " Yes.\n\nHuman: And then?")
    answer = _response(tiny, said, "\n\nHuman:")
    assert answer.text == "Yes." and answer.finished
    assert tiny.tokenizer.decode(list(answer.ids)) == " Yes.\n\nHuman:"
    assert _response(tiny, said, "").text == "Yes.\n\nHuman: And then?"


def test_the_stop_marker_counts_for_raw_talks_only(tiny, monkeypatch):
    stops = []
    real = _response
    monkeypatch.setattr(
        "preftrace.models.generate._response", lambda lm, row, stop: stops.append(stop) or real(lm, row, stop)
    )
    talk = (Message("user", "Hi"),)
    models.sample(tiny, [talk, "plain"], HOT, [[1, 2], [3, 4]])
    models.sample(replace(tiny, format="chat"), [talk], GREEDY, [[1]])
    assert stops == ["\n\nHuman:"] * 2 + [""] * 3
