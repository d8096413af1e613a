"""What all prompts of a vertical start with: computed once, and no log-likelihood changes for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.conftest import build_model, build_tokenizer, exact

from preftrace import models
from preftrace.errors import ConfigError, DataError
from preftrace.evaluate import Evaluation, configure, load, run, runner
from preftrace.evaluate.backends import hf
from preftrace.study.reading import read_study
from preftrace.types import Checkpoint, Message, prompt_from_json

SOLVED = "Q: What is two and two?\nA: Four.\n\nQ: What colour is the sky?\nA: Blue, on a clear day.\n"


@pytest.fixture
def solved(tmp_path):
    path = tmp_path / "solved.txt"
    path.write_text(f"\n{SOLVED}\n\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def lm64():
    return models.LanguageModel(exact(build_model()), build_tokenizer(), "raw", "float64")


def scored(lm, items, opening):
    loaded = hf.Loaded(lm, [prompt_from_json(prompt) for prompt in opening])
    found = loaded.logprobs([item.prompt for item in items], [[o.text for o in item.options] for item in items])
    return loaded.start, [[score.logprob for score in own] for own in found]


def test_a_preamble_stands_before_every_question(solved):
    plain = load("truthfulness").items(configure("truthfulness", {"limit": 4}), 0)
    for measure in ("mc", "generation"):
        with_it = load("truthfulness").items(
            configure("truthfulness", {"limit": 4, "preamble": solved, "measure": measure}), 0
        )
        assert all(item.prompt.startswith(SOLVED + "\nQ: ") and item.prompt.endswith("\nA:") for item in with_it)
        assert sorted(i.prompt.removeprefix(SOLVED + "\n") for i in with_it) == sorted(i.prompt for i in plain) or (
            measure == "generation"
        )


def test_its_text_is_part_of_the_identity_and_its_place_is_not(solved, tiny_folder, tmp_path):
    same, other = tmp_path / "same.txt", tmp_path / "other.txt"
    same.write_text(SOLVED)
    other.write_text(SOLVED + "\nQ: Why?\nA: Because.")

    def identity(path):
        config = configure("truthfulness", {"limit": 2, "preamble": path})
        return run(Checkpoint(str(tiny_folder)), "truthfulness", config, tmp_path / "run" / "truthfulness").identity

    first = identity(solved)
    assert identity(str(same)) == first
    assert identity(str(other)) != first != identity(None)


def test_bad_preambles_are_told(tmp_path):
    blank = tmp_path / "blank.txt"
    blank.write_text(" \n")
    for path, said in ((tmp_path / "none.txt", "preamble"), (blank, "blank")):
        with pytest.raises(DataError, match=said) as told:
            load("truthfulness").items(configure("truthfulness", {"preamble": str(path)}), 0)
        assert path.name in str(told.value)
    with pytest.raises(ConfigError, match="leave preamble out"):
        configure("truthfulness", {"preamble": str(blank), "protocol": "paper"})


def test_a_study_names_it_beside_itself(solved, tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text("name: x\nverticals: {truthfulness: {preamble: solved.txt}}\nstages: {sft: }\n")
    assert read_study(study).verticals["truthfulness"].preamble == solved


@pytest.mark.parametrize("format", ["raw", "chat"])
def test_sharing_changes_no_log_likelihood(lm64, solved, format):
    lm = replace(lm64, format=format)
    items = load("truthfulness").items(configure("truthfulness", {"limit": 6, "preamble": solved}), 0)
    start, found = scored(lm, items, runner.opening(items))
    text = lm.tokenizer.decode(list(start.ids))
    assert text.endswith("\n\nQ:") and SOLVED in text, "all but the last token of what is shared"
    nothing, wanted = scored(lm, items, ())
    assert nothing is None
    for one, other in zip(found, wanted, strict=True):
        assert one == pytest.approx(other, rel=1e-11)


def test_talks_share_their_instruction(lm64):
    items = load("truthfulness").items(configure("truthfulness", {"limit": 6}), 0)
    system = Message("system", "Answer truthfully, in few words, and say so if you do not know.")
    items = [replace(item, prompt=(system, Message("user", item.prompt))) for item in items]
    start, found = scored(lm64, items, runner.opening(items))
    assert lm64.tokenizer.decode(list(start.ids)) == f"{system.content}\n\nHuman: Q:"
    for one, other in zip(found, scored(lm64, items, ())[1], strict=True):
        assert one == pytest.approx(other, rel=1e-11)


def test_little_in_common_is_not_shared(lm64):
    items = load("truthfulness").items(configure("truthfulness", {"limit": 6}), 0)
    assert len(runner.opening(items)) == 2 and scored(lm64, items, runner.opening(items))[0] is None
    assert runner.opening(items[:1]) == () == runner.opening([replace(item, options=()) for item in items])


def test_an_evaluation_computes_it_once(solved, tiny_folder, tmp_path, monkeypatch):
    """Once for all shards; and the record's numbers are those of each row by itself."""
    computed, real = [], models.compute_prefix
    monkeypatch.setattr(models, "compute_prefix", lambda lm, ids: computed.append(len(ids)) or real(lm, ids))
    config = configure("truthfulness", {"limit": 6, "batch_size": 2, "preamble": solved})
    record = run(Checkpoint(str(tiny_folder)), "truthfulness", config, tmp_path / "base" / "truthfulness")
    assert computed == [len(SOLVED) + 3]
    lm = models.load(Checkpoint(str(tiny_folder)))
    view = Evaluation(record).options()
    for item in load("truthfulness").items(config, 0)[:2]:
        for number, option in enumerate(item.options):
            row = models.encode(lm.tokenizer, item.prompt, option.text, "raw", eos=False)
            own = view[(view.item_id == item.id) & (view.option == number)].logprob.item()
            assert own == pytest.approx(models.completion_logprobs(lm, [row])[0], abs=1e-3)


def test_log_likelihoods_are_those_of_lm_eval(solved, tiny_folder):
    """Its `hf` backend on the same strings, float32."""
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = models.load(Checkpoint(str(tiny_folder)))
    items = load("truthfulness").items(configure("truthfulness", {"limit": 4, "preamble": solved}), 0)
    asked = [(item.prompt, f" {option.text}") for item in items for option in item.options]
    theirs = HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=4)
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(asked)]
    wanted = [value for value, _ in theirs.loglikelihood(requests, disable_tqdm=True)]
    found = [value for own in scored(lm, items, runner.opening(items))[1] for value in own]
    assert found == pytest.approx(wanted, abs=1e-3)


@pytest.fixture(autouse=True)
def _forget_models():
    yield
    hf._load.cache_clear()
