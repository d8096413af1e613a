import math

import pytest

from preftrace import artifacts, models
from preftrace.engines._base import Resources
from preftrace.errors import DataError
from preftrace.evaluate import Evaluation, configure, load, run, runner
from preftrace.evaluate.backends import hf
from preftrace.evaluate.scorers import profanity
from preftrace.evaluate.worker import Worker
from preftrace.types import Checkpoint, Sampling

VERTICALS = ("ethics", "privacy", "stereotypes", "toxicity", "truthfulness")
SMALL = {"limit": 5, "batch_size": 2}
GENERATE = {"max_new_tokens": 4}


def settings(vertical, **more):
    return configure(vertical, SMALL | ({} if vertical == "truthfulness" else GENERATE) | more)


@pytest.fixture
def checkpoint(tiny_folder):
    return Checkpoint(str(tiny_folder))


def outputs(record):
    return dict(record.outputs), record.content


@pytest.mark.parametrize("vertical", VERTICALS)
def test_every_vertical_leaves_a_record_and_three_tables(checkpoint, tmp_path, vertical):
    record = run(checkpoint, vertical, settings(vertical), tmp_path / "base" / vertical)

    module = load(vertical)
    view = Evaluation.open(record.folder)
    sampling = settings(vertical).sampling
    assert sorted(record.outputs) == ["generations.parquet", "items.parquet", "options.parquet"]
    assert record.name == f"evaluate/base/{vertical}" and view.vertical == vertical
    assert len(view.items()) == 5 and 0 <= view.trust <= 1
    assert len(view.frame()) == (5 * sampling.samples if sampling else 0)
    assert sum(record.summary["outcomes"].values()) == len(view.frame())
    default = next((m.measure for m in module.METRICS if m.measure), "")
    measure = module.items(settings(vertical), 0)[0].target.get("measure", default)
    own = [m.name for m in module.METRICS if m.measure in ("", measure)] + ["empty_rate"] * bool(sampling)
    assert list(view.metrics().index) == ["trust", *own] and own
    assert record.summary["metrics"][module.METRICS[0].name]["label"] == module.METRICS[0].label
    assert not list(record.folder.glob("_*"))


@pytest.mark.parametrize("format", ["raw", "chat"])
def test_option_logprobs_are_the_models_own(checkpoint, tiny, tmp_path, format):
    config = settings("truthfulness")
    record = run(checkpoint, "truthfulness", config, tmp_path / "t", format=format)

    found = Evaluation(record).options()
    for item in load("truthfulness").items(config, 0):
        own = found[found.item_id == item.id]
        assert list(own.text) == [option.text for option in item.options]
        for option, logprob, tokens in zip(item.options, own.logprob, own.tokens, strict=True):
            row = models.encode(tiny.tokenizer, item.prompt, option.text, format, eos=False)
            assert logprob == pytest.approx(models.completion_logprobs(tiny, [row])[0], abs=1e-4)
            assert tokens == len(row.answer_ids)


def test_mc2_and_trust_are_recomputed_from_the_options(checkpoint, tmp_path):
    record = run(checkpoint, "truthfulness", settings("truthfulness"), tmp_path / "t")

    view = Evaluation(record)
    options = view.options()
    for row in view.items().itertuples():
        own = options[options.item_id == row.item_id]
        weights = [math.exp(v - own.logprob.max()) for v in own.logprob]
        good = sum(w for w, g in zip(weights, own.good, strict=True) if g)
        assert row.trust == row.mc2 == pytest.approx(good / sum(weights), abs=1e-9)


def test_draws_are_seeded_by_item_and_sample(checkpoint, tiny, tmp_path):
    config = settings("toxicity", samples=2)
    record = run(checkpoint, "toxicity", config, tmp_path / "t", seed=3)

    prompts = {item.id: item.prompt for item in load("toxicity").items(config, 3)}
    for row in Evaluation(record).frame().itertuples():
        seed = runner.sample_seed(3, row.item_id, row.sample)
        alone = models.sample(tiny, [prompts[row.item_id]], Sampling(1, 4, 0.7), [[seed]])[0][0]
        assert (row.seed, row.response, tuple(row.response_ids)) == (seed, alone.text, alone.ids)


def test_the_same_command_again_computes_nothing(checkpoint, tmp_path, monkeypatch):
    first = run(checkpoint, "privacy", settings("privacy"), tmp_path / "p")
    monkeypatch.setattr(Worker, "run", lambda self, shard: pytest.fail("it computed again"))

    again = run(checkpoint, "privacy", settings("privacy"), tmp_path / "p")

    assert again == first


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"format": "chat"}, {"config": {"max_new_tokens": 5}}, {"config": {"limit": 6}}]
)
def test_a_changed_setting_is_another_evaluation(checkpoint, tmp_path, changed):
    more = changed.pop("config", {})
    first = run(checkpoint, "ethics", settings("ethics"), tmp_path / "e")

    other = run(checkpoint, "ethics", settings("ethics", **more), tmp_path / "e", **changed)

    assert other.identity != first.identity


def test_a_new_version_of_the_usual_backend_is_another_evaluation(checkpoint, tmp_path, monkeypatch):
    first = run(checkpoint, "truthfulness", settings("truthfulness"), tmp_path / "base" / "truthfulness")
    assert "backend" not in first.config
    monkeypatch.setattr(hf, "VERSION", hf.VERSION + 1)

    other = run(checkpoint, "truthfulness", settings("truthfulness"), tmp_path / "base" / "truthfulness")

    assert other.identity != first.identity and other.config["backend"]["version"] == hf.VERSION


@pytest.mark.parametrize("vertical", ["toxicity", "stereotypes"])
def test_a_killed_evaluation_resumes_at_the_shard_and_ends_equal(checkpoint, tmp_path, monkeypatch, vertical):
    whole = run(checkpoint, vertical, settings(vertical), tmp_path / "whole" / vertical)
    computed = []
    original = Worker.run

    def dying(self, shard):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(shard)
        return original(self, shard)

    monkeypatch.setattr(Worker, "run", dying)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, vertical, settings(vertical), tmp_path / "killed" / vertical)
    assert not (tmp_path / "killed" / vertical).exists()
    monkeypatch.setattr(Worker, "run", lambda self, shard: computed.append(shard) or original(self, shard))
    resumed = run(checkpoint, vertical, settings(vertical), tmp_path / "killed" / vertical)

    assert len(computed) == 3
    assert outputs(resumed) == outputs(whole)


def test_an_evaluation_killed_while_scoring_ends_equal(checkpoint, tmp_path, monkeypatch):
    whole = run(checkpoint, "toxicity", settings("toxicity"), tmp_path / "whole")
    scored = profanity.Profanity.score

    def dying(self, texts):
        raise KeyboardInterrupt

    monkeypatch.setattr(profanity.Profanity, "score", dying)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, "toxicity", settings("toxicity"), tmp_path / "killed")
    monkeypatch.setattr(profanity.Profanity, "score", scored)
    monkeypatch.setattr(Worker, "run", lambda self, shard: pytest.fail("it generated again"))

    assert outputs(run(checkpoint, "toxicity", settings("toxicity"), tmp_path / "killed")) == outputs(whole)


def test_two_processes_give_the_same_bytes_as_one(checkpoint, tmp_path):
    config = settings("privacy", samples=1, limit=4)
    one = run(checkpoint, "privacy", config, tmp_path / "one" / "privacy")
    two = run(checkpoint, "privacy", config, tmp_path / "two" / "privacy", resources=Resources(workers=2))

    assert outputs(one) == outputs(two)


def test_a_scorer_that_fails_gives_nan_and_a_count(checkpoint, tmp_path, monkeypatch):
    # Every second distinct text fails: its response, its item and every measure of the item are missing, never 0.
    monkeypatch.setattr(
        profanity.Profanity, "score", lambda self, texts: [0.25 if i % 2 else math.nan for i in range(len(texts))]
    )
    record = run(checkpoint, "toxicity", settings("toxicity", samples=1), tmp_path / "t")

    frame, items = (table(Evaluation(record)) for table in (lambda v: v.frame(), lambda v: v.items()))
    failed = frame[frame.score.isna()]
    assert len(failed) == record.summary["unscored"] == record.summary["outcomes"]["unparsed"] > 0
    assert failed.trust.isna().all()
    assert set(items[items.trust.isna()].item_id) == set(failed.item_id)
    for name in ("trust", "expected_max_toxicity", "toxicity_probability"):
        measure = record.summary["trust"] if name == "trust" else record.summary["metrics"][name]
        assert measure["missing"] == len(failed) and measure["n"] == 5 - len(failed)
    assert record.summary["trust"]["value"] == pytest.approx(0.75)


@pytest.mark.parametrize("wrong", [[0.5], [0.1, 2.0, 0.1], [0.1, -0.1, 0.1]])
def test_a_scorer_that_breaks_its_contract_is_an_error(wrong):
    from preftrace.evaluate import scoring

    class Broken:
        name, revision = "broken", "1"

        def score(self, texts):
            return wrong

    with pytest.raises(DataError, match="broken"):
        scoring.score_all(Broken(), ["a", "b", "c"])


def test_blank_answers_score_zero_by_rule_and_each_text_is_scored_once():
    from preftrace.evaluate import scoring

    asked = []

    class Counting:
        name, revision = "counting", "1"

        def score(self, texts):
            asked.extend(texts)
            return [0.5 for _ in texts]

    assert scoring.score_all(Counting(), ["b", "", "a", " \n", "b"]) == [0.5, 0.0, 0.5, 0.0, 0.5]
    assert asked == ["a", "b"]


def test_an_empty_answer_is_kept_and_trusted_by_rule(checkpoint, tmp_path, monkeypatch):
    original = Worker._responses
    monkeypatch.setattr(Worker, "_responses", lambda self, *a: [{**row, "response": ""} for row in original(self, *a)])
    trust, outcome = {}, {}
    for vertical in ("toxicity", "privacy", "ethics"):
        record = run(checkpoint, vertical, settings(vertical, batch_size=5), tmp_path / vertical)
        frame = Evaluation(record).frame()
        trust[vertical], outcome[vertical] = frame.trust, set(frame.outcome)
        assert len(frame) >= 5

    assert (trust["toxicity"] == 1).all() and outcome["toxicity"] == {"good"}
    assert (trust["privacy"] == 1).all() and outcome["privacy"] == {"unparsed"}
    assert trust["ethics"].isna().all() and outcome["ethics"] == {"unparsed"}


def test_duplicate_rows_are_kept_once_and_counted(checkpoint, tmp_path, write):
    rows = [{"prompt": {"text": text}} for text in ("The door was", "Nobody knew", "The door was")]
    config = configure("toxicity", {"source": "rtp", "path": write("p.jsonl", rows), **GENERATE})

    record = run(checkpoint, "toxicity", config, tmp_path / "t")

    assert {k: record.summary[k] for k in ("items", "available", "duplicates")} == {
        "items": 2,
        "available": 2,
        "duplicates": 1,
    }
    assert list(Evaluation(record).items().prompt) == ["The door was", "Nobody knew"]


def test_shards_hold_every_item_once_in_order_of_length():
    config = configure("ethics")
    items = load("ethics").items(config, 0)

    batches = runner.shards(items, 8, 1, 0)

    ids = [item["id"] for batch in batches for item in batch["items"]]
    lengths = [len(item["prompt"]) for batch in batches for item in batch["items"]]
    assert sorted(ids) == sorted(item.id for item in items) and lengths == sorted(lengths)
    assert [len(batch["items"]) for batch in batches] == [8] * (len(items) // 8) + [len(items) % 8] * bool(
        len(items) % 8
    )
    assert runner.shards(list(reversed(items)), 8, 1, 0) == batches


def test_item_columns_tell_what_does_not_apply_from_what_is_missing(checkpoint, tmp_path):
    record = run(checkpoint, "ethics", settings("ethics", limit=6), tmp_path / "e")

    table = artifacts.read_table(record.folder / "items.parquet").to_pylist()
    for row in table:
        wrong = '"wrong": true' in row["target"]
        assert (row["false_negative_rate"] is None) is not wrong
        assert (row["true_negative_rate"] is None) is wrong
    assert record.summary["metrics"]["false_negative_rate"]["n"] == 3
    assert record.summary["metrics"]["false_negative_rate"]["missing"] == 0


def test_an_adapter_checkpoint_is_evaluated_with_its_adapter(tiny_folder, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    wrapped = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_folder), LoraConfig(r=2, target_modules=["q_proj"])
    )
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    wrapped.save_pretrained(tmp_path / "adapter")
    trained = Checkpoint(str(tiny_folder), (str(tmp_path / "adapter"),))
    config = settings("truthfulness")

    base = run(Checkpoint(str(tiny_folder)), "truthfulness", config, tmp_path / "base")
    after = run(trained, "truthfulness", config, tmp_path / "after")

    lm = models.load(trained)
    item = load("truthfulness").items(config, 0)[0]
    row = models.encode(lm.tokenizer, item.prompt, item.options[0].text, "raw", eos=False)
    found = Evaluation(after).options()
    own = found[(found.item_id == item.id) & (found.option == 0)].logprob.item()
    assert own == pytest.approx(models.completion_logprobs(lm, [row])[0], abs=1e-4)
    assert base.content != after.content


@pytest.fixture(autouse=True)
def _forget_models():
    yield
    hf._load.cache_clear()
