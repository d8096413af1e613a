"""Each baseline by hand: what it gives for texts and states that can be worked out, and its sign."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError

from preftrace import artifacts, models
from preftrace.attribute.baselines import bm25, random
from preftrace.attribute.baselines._base import Answer, Given, contrast, score_all, signed
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.queries import Query, QueryItem
from preftrace.engines import Resources
from preftrace.errors import ModelError
from preftrace.registry import BASELINES
from preftrace.types import Checkpoint, prompt_to_json

PROMPT = "\n\nHuman: may I have his number?\n\nAssistant:"
GOOD, BAD = "I would rather not say", "sure, call 555-0100"
ROW = models.Encoded((1, 2), (3,), False)


def test_bm25_by_hand():
    """Two documents of mean length 2, every word in one of them: idf = ln(1 + 1.5 / 1.5) = ln 2.

    In "a a b", f = 2 and |d| / mean = 1.5: 2 x 2.5 / (2 + 1.5 (0.25 + 0.75 x 1.5)) = 5 / 4.0625.
    """
    found = bm25.scores([["a a B"], ["c"]], [[("A", 1.0)], [("a", -2.0)], [("a z", 1.0)]])
    a = math.log(2) * 5 / 4.0625
    np.testing.assert_allclose(found, [[a, -2 * a, a / 2]])


def test_bm25_draws_to_good_answers_and_away_from_bad_ones():
    direction = [("no never", 1.0), ("yes please", -1.0)]
    chosen, rejected = ["no, never", "yes please", "blue"], ["yes please", "No! Never.", "green"]
    helps, harms, neither = bm25.scores([chosen, rejected], [direction])[:, 0]
    assert helps > 0 and harms == -helps and neither == 0
    alone = bm25.scores([chosen], [direction])[:, 0]
    assert alone[0] > 0 > alone[1] and alone[2] == 0


def test_bm25_a_long_answer_counts_as_much_as_a_short_one():
    """A pair with both answers' words alike often scores 0, although the good answer is four times as long."""
    long = [("no no no no", 1.0), ("yes", -1.0)]
    assert bm25.scores([["no yes", "other words"]], [long])[0, 0] == pytest.approx(0, abs=1e-12)


def test_bm25_of_answers_without_any_word():
    np.testing.assert_array_equal(bm25.scores([["...", ""], ["!", ""]], [[("no", 1.0)]]), np.zeros((2, 1)))


@pytest.mark.parametrize("text", ["no", "..."])
def test_bm25_of_a_query_whose_words_cancel_is_missing(text):
    """Two items with the same two options, good and bad in turn; and options without a word."""
    turns = [(text, 1.0), ("yes", -1.0), ("yes", 1.0), (text, -1.0)]
    found = bm25.scores([["no yes", "blue"]], [turns, [("yes", 1.0)]])
    assert np.isnan(found[:, 0]).all() and np.isfinite(found[:, 1]).all()
    assert np.isnan(bm25.scores([["no", "blue"]], [[("...", 1.0)]])).all()


def test_random_is_seeded_and_differs_by_stage_and_vertical():
    one = random.draw(3, "dpo", ["ethics", "privacy"], 4000)
    np.testing.assert_array_equal(one, random.draw(3, "dpo", ["ethics", "privacy"], 4000))
    np.testing.assert_array_equal(one[:, 1:], random.draw(3, "dpo", ["privacy"], 4000))
    others = [random.draw(4, "dpo", ["ethics"], 4000), random.draw(3, "sft", ["ethics"], 4000), one[:, 1:]]
    for other in others:
        assert abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1]) < 0.06
    assert abs(one.mean()) < 0.05 and one.std() == pytest.approx(1, abs=0.05)


def test_contrast_is_chosen_minus_rejected_or_chosen_alone():
    np.testing.assert_array_equal(contrast(np.array([[5, 1], [2, 4]])), [3, -3])
    np.testing.assert_array_equal(contrast(np.array([[5, 1]])), [5, 1])


def test_log_odds_marks_become_equal_shares_of_the_good_and_of_the_bad():
    """One good option of four: 1 and -1/3 each, divided by the two items; a mean of good minus a mean of bad."""
    item = QueryItem("i", (ROW,) * 4, (-1.0, 1.0, -1.0, -1.0))
    found = signed(Query("log-odds", (item,), 2, 2, 1.0, ""))
    np.testing.assert_allclose([answer.weight for answer in found], [-1 / 6, 1 / 2, -1 / 6, -1 / 6])


@pytest.mark.parametrize("kind", ["score-function", "covariance", "reward-gap", "margin", "paper"])
def test_other_weights_are_the_querys_own(kind):
    item = QueryItem("i", (ROW, ROW), (0.6, -0.6))
    assert [answer.weight for answer in signed(Query(kind, (item,), 3, 2.0, 1.0, ""))] == [0.3, -0.3]


@pytest.fixture
def world(tiny_folder, tmp_path, tiny):
    """Two pairs with the query's own answers, the right way round and the wrong one, and one that says nothing."""
    rows = models.encode_answers(tiny.tokenizer, PROMPT, [GOOD, BAD], "raw", 512)
    counts = {"pair_id": ["p0", "p1", "p2", "p3"], "used": [True, True, True, False]}
    counts |= {"chosen_tokens": [23, 20, 23, 1], "rejected_tokens": [20, 23, 23, 1]}
    artifacts.write_table(tmp_path / "tokens.parquet", pa.table(counts))

    def given(kind="dpo", copies=1, workers=1, **settings):
        answers = [(GOOD, BAD), (BAD, GOOD), (GOOD, GOOD)] * copies
        columns = {"id": [f"p{i}" for i in range(len(answers))], "meta": ["{}"] * len(answers)}
        columns |= {"chosen": [c for c, _ in answers], "rejected": [r for _, r in answers]}
        columns |= {"prompt_json": [prompt_to_json(f"{i}{PROMPT}" if i > 2 else PROMPT) for i in range(len(answers))]}
        work = tmp_path / f"{kind}-{workers}"
        artifacts.write_table(work / "_pairs.parquet", pa.table(columns))
        checkpoint = Checkpoint(str(tiny_folder))
        loss = {"kind": kind, "max_length": 512, "beta": 0.1}
        job = SimpleNamespace(
            config=AttributeConfig(**settings),
            checkpoint=checkpoint,
            format="raw",
            loss=loss,
            seed=0,
            resources=Resources(workers),
            record=SimpleNamespace(folder=Path(kind)),
            source=SimpleNamespace(folder=tmp_path),
        )
        model = {"checkpoint": asdict(checkpoint), "pairs": str(work / "_pairs.parquet"), "loss": loss}
        model |= {"format": "raw", "precision": "float32", "batch_tokens": 512}
        return Given(job, model, work, {"privacy": (Answer(rows[0], 1.0), Answer(rows[1], -1.0))})

    return given


@pytest.mark.parametrize("name", ["bm25", "embedding", "activation"])
@pytest.mark.parametrize("kind", ["dpo", "sft"])
def test_a_pair_with_the_good_answer_chosen_helps_and_its_mirror_harms(world, name, kind):
    right, wrong, neither = BASELINES.load(name).score(world(kind))[:, 0]
    if kind == "dpo":
        assert right > 0 and wrong == pytest.approx(-right, rel=1e-4) and neither == pytest.approx(0, abs=1e-6)
    else:
        assert right > wrong and neither == pytest.approx(right, rel=1e-4)


def test_length_is_what_the_rejected_answer_has_more(world):
    np.testing.assert_array_equal(BASELINES.load("length").score(world("dpo")), [[-3.0], [3.0], [0.0]])
    np.testing.assert_array_equal(BASELINES.load("length").score(world("sft")), [[-23.0], [-20.0], [-23.0]])


def test_activation_is_the_projection_of_plain_mean_states(world, tiny):
    """Each answer alone, by the model's own list of states; the middle one of embeddings, layer 1 and layer 2."""

    def mean(answer, layer):
        row = models.encode(tiny.tokenizer, PROMPT, answer, "raw")
        ids = torch.tensor([[*row.prompt_ids, *row.answer_ids]])
        with torch.no_grad():
            states = tiny.model(ids, output_hidden_states=True).hidden_states[layer][0]
        return states[len(row.prompt_ids) :].double().mean(0).numpy()

    found = BASELINES.load("activation").score(world())[:, 0]
    direction = mean(GOOD, 1) - mean(BAD, 1)
    size = np.linalg.norm(direction)
    np.testing.assert_allclose(found, [size, -size, 0], rtol=1e-4, atol=1e-5)
    last = np.linalg.norm(mean(GOOD, 2) - mean(BAD, 2))
    alone = BASELINES.load("activation").score(world("sft", activation_layer=2))[:, 0]
    wanted = [mean(answer, 2) @ (mean(GOOD, 2) - mean(BAD, 2)) / last for answer in (GOOD, BAD, GOOD)]
    np.testing.assert_allclose(alone, wanted, rtol=1e-4, atol=1e-5)


def test_embedding_is_a_difference_of_cosines_of_input_embeddings(world, tiny):
    table = tiny.model.get_input_embeddings().weight.detach().double().numpy()
    unit = []
    for answer in (GOOD, BAD):
        mean = table[list(models.encode(tiny.tokenizer, PROMPT, answer, "raw").answer_ids)].mean(0)
        unit.append(mean / np.linalg.norm(mean))
    good, bad = unit
    found = BASELINES.load("embedding").score(world())[:, 0]
    wanted = (good @ good - good @ bad) - (bad @ good - bad @ bad)
    np.testing.assert_allclose(found, [wanted, -wanted, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["embedding", "activation"])
def test_a_direction_of_zero_is_missing(world, name):
    """The same answer with weights 1 and -1 leaves rounding, which is no direction."""
    given = world()
    same = given.answers["privacy"][0]
    still = Given(given.job, given.model, given.work, {"privacy": (same, same._replace(weight=-1.0))})
    assert np.isnan(BASELINES.load(name).score(still)).all()


@pytest.mark.integration
def test_two_workers_give_the_scores_of_one(world):
    one, two = (BASELINES.load("activation").score(world(copies=8, workers=workers)) for workers in (1, 2))
    assert len(np.unique(one)) > 12
    np.testing.assert_array_equal(one, two)


def test_a_layer_that_is_not_there_is_said(world):
    with pytest.raises(ModelError, match="activation_layer 3: the model's last layer is 2"):
        BASELINES.load("activation").score(world(activation_layer=3))


def test_a_vertical_without_a_direction_is_missing_for_every_baseline(world):
    given = world(baselines=("length", "random", "bm25", "embedding", "activation"))
    rows, weights = zip(*given.answers["privacy"], strict=True)
    queries = {
        "ethics": Query("log-odds", (), 0, 0, 1.0, "no item has a good and a bad option"),
        "privacy": Query("score-function", (QueryItem("i", rows, weights),), 1, 1, 1.0, ""),
    }
    found = score_all(given.job, given.model, queries, given.work)
    assert list(found) == ["length", "random", "bm25", "embedding", "activation"]
    for values in found.values():
        assert values.shape == (3, 2) and np.isnan(values[:, 0]).all() and np.isfinite(values[:, 1]).all()
    nowhere = score_all(given.job, given.model, {"ethics": queries["ethics"]}, given.work)
    assert all(np.isnan(values).all() for values in nowhere.values())


def test_unknown_and_repeated_baselines_are_refused():
    known = "activation, bm25, embedding, length, random"
    with pytest.raises(ValidationError, match=f"unknown baseline 'bm26'; known: {known}"):
        AttributeConfig(baselines=("bm26",))
    with pytest.raises(ValidationError, match="a baseline is named twice"):
        AttributeConfig(baselines=("length", "length"))
    assert AttributeConfig(baselines=()).baselines == ()
