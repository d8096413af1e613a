import json
import math

import pytest
from tests.evaluate.openai_server import serving
from typer.testing import CliRunner

from preftrace import models
from preftrace.cli.app import app
from preftrace.errors import ConfigError, ModelError
from preftrace.evaluate import Evaluation, configure, load, run, runner
from preftrace.evaluate import backend as backends
from preftrace.evaluate.backends import hf
from preftrace.types import Checkpoint, Sampling

FAULTS = ("429", "500", "cut", "half", "empty", "unfinished")


@pytest.fixture
def served(tiny):
    with serving(tiny) as served:
        yield served


@pytest.fixture(autouse=True)
def _forget_models():
    yield
    hf._load.cache_clear()


def settings(vertical, **more):
    generated = {} if vertical == "truthfulness" else {"max_new_tokens": 4}
    return configure(vertical, {"limit": 4, "batch_size": 2, **generated, **more})


def backend(served, **more):
    return backends.configure(
        {"name": "openai", "base_url": served.url, "model": "tiny", "backoff": 0.01, "timeout": 20, **more}
    )


def served_run(served, vertical, out, format="raw", config=None, **more):
    given = backend(served, **more)
    return run(Checkpoint("anything"), vertical, config or settings(vertical), out, format=format, backend=given)


def same_options(record, other, tolerance=1e-4):
    ours, theirs = Evaluation(record).options(), Evaluation(other).options()
    assert list(ours.item_id) == list(theirs.item_id) and list(ours.text) == list(theirs.text)
    assert list(ours.tokens) == list(theirs.tokens) and len(ours)
    assert list(ours.logprob) == pytest.approx(list(theirs.logprob), abs=tolerance)


@pytest.mark.parametrize(
    ("format", "can", "tokenizer"),
    [
        ("raw", "echo", False),
        ("raw", "prompt_logprobs", False),
        ("raw", "echo", True),
        ("chat", "prompt_logprobs", False),
        ("chat", "echo", True),
    ],
)
def test_a_served_model_gives_what_the_same_model_gives_in_this_process(
    served, tiny_folder, tmp_path, format, can, tokenizer
):
    served.can = {can}
    more = {"tokenizer": str(tiny_folder)} if tokenizer else {}
    config = settings("ethics")
    mine = run(Checkpoint(str(tiny_folder)), "ethics", config, tmp_path / "mine", format=format)

    record = served_run(served, "ethics", tmp_path / "served", format, **more)

    same_options(record, mine)
    frames = [Evaluation(each).frame() for each in (record, mine)]
    ours, theirs = (f[["item_id", "response", "finished", "outcome"]].values.tolist() for f in frames)
    assert ours == theirs and len(ours) == 4
    if format == "raw" or tokenizer:
        assert list(frames[0].prompt) == list(frames[1].prompt)
    assert frames[0].response_ids.isna().all() and record.summary["generated_tokens"] is None
    assert record.summary["trust"]["value"] == pytest.approx(mine.summary["trust"]["value"], abs=1e-4)
    paths = {path for path, _ in served.asked}
    assert paths == ({"/v1/completions"} if format == "raw" else paths) and paths


def test_every_answer_has_its_own_seed_and_full_sampling(served, tiny, tmp_path):
    config = settings("toxicity", samples=3)

    record = served_run(served, "toxicity", tmp_path / "t", config=config)

    prompts = {item.id: item.prompt for item in load("toxicity").items(config, 0)}
    for row in Evaluation(record).frame().itertuples():
        assert row.seed == runner.sample_seed(0, row.item_id, row.sample)
        alone = models.sample(tiny, [prompts[row.item_id]], Sampling(1, 4, 0.7), [[row.seed % 2**31]])[0][0]
        assert row.response == alone.text
    bodies = [body for _, body in served.asked if "seed" in body]
    assert len(bodies) == 12 and len({body["seed"] for body in bodies}) == 12
    assert all(body["top_p"] == 1 and body["n"] == 1 and body["temperature"] == 0.7 for body in bodies)


def test_extra_fields_are_sent_and_null_leaves_one_out(served, tmp_path):
    served_run(served, "toxicity", tmp_path / "t", extra={"top_k": 0, "n": None})
    assert all(body["top_k"] == 0 and "n" not in body for _, body in served.asked)


def test_the_record_says_what_was_evaluated_and_its_fingerprint_is_part_of_the_identity(served, tmp_path):
    first = served_run(served, "toxicity", tmp_path / "t")
    asked = len(served.asked)

    again = served_run(served, "toxicity", tmp_path / "t", concurrency=2, timeout=9)
    said = first.config["backend"]
    assert again == first and len(served.asked) == asked + 1, "only the greeting is sent again"
    assert (said["name"], said["served"], said["base_url"], said["fingerprint"]) == (
        "openai",
        "tiny",
        served.url,
        "fp_1",
    )
    assert said["listed"] == {"owned_by": "tests"}

    served.fingerprint = "fp_2"
    assert served_run(served, "toxicity", tmp_path / "t").inputs["model"] != first.inputs["model"]


@pytest.mark.parametrize("vertical", ["toxicity", "truthfulness"])
def test_what_goes_wrong_on_the_way_changes_nothing(served, tmp_path, vertical):
    whole = served_run(served, vertical, tmp_path / "whole" / vertical)
    served.faults = [None, *FAULTS, None, None, *reversed(FAULTS), "429", "429", None, "slow"]

    # The slow answer never comes; all others do in this time, also where 8 of them wait for one busy core.
    record = served_run(served, vertical, tmp_path / "faulty" / vertical, timeout=3, retries=8)

    assert not served.faults
    assert (record.outputs, record.content) == (whole.outputs, whole.content)


def test_a_server_that_goes_away_leaves_what_is_finished_and_the_rest_is_asked_later(served, tmp_path):
    whole = served_run(served, "toxicity", tmp_path / "whole" / "toxicity")
    number = len(served.asked)
    served.asked.clear()
    served.fail_after = number // 2 + 1

    with pytest.raises(ModelError, match=r"status 500.*3 tries.*same command again"):
        served_run(served, "toxicity", tmp_path / "killed" / "toxicity", retries=2)
    assert not (tmp_path / "killed" / "toxicity").exists()
    served.asked.clear()
    served.fail_after = None
    resumed = served_run(served, "toxicity", tmp_path / "killed" / "toxicity", retries=3)

    assert len(served.asked) < number
    assert (resumed.outputs, resumed.content) == (whole.outputs, whole.content)


def test_without_log_likelihoods_the_message_names_the_vertical_and_what_to_do(served, tmp_path):
    served.can = set()
    with pytest.raises(ModelError, match=r"truthfulness needs log-likelihoods.*backend hf, or leave truthfulness out"):
        served_run(served, "truthfulness", tmp_path / "t")
    with pytest.raises(ModelError, match=r"set tokenizer: so that chats are rendered here"):
        served_run(served, "truthfulness", tmp_path / "t", "chat")
    assert Evaluation(served_run(served, "toxicity", tmp_path / "x")).frame().shape[0] > 0


def test_a_log_probability_that_is_not_told_is_missing_and_never_a_number(served, tmp_path):
    items = load("truthfulness").items(settings("truthfulness"), 0)
    told = items[0].options[0].text
    rare = next(c for c in told if not any(c in o.text for item in items[1:] for o in item.options) or c == told[-1])
    served.nulls = {served.lm.tokenizer(rare)["input_ids"][0]}

    record = served_run(served, "truthfulness", tmp_path / "t")

    options = Evaluation(record).options()
    held = options.text.str.contains(rare, regex=False)
    assert held.any() and options.logprob[held].isna().all() and options.logprob[~held].notna().all()
    missing = set(options.item_id[held])
    view = Evaluation(record).items()
    assert set(view.item_id[view.trust.isna()]) == missing and record.summary["trust"]["missing"] == len(missing)


def test_a_token_across_the_border_of_prompt_and_option_is_missing_and_said(served, tmp_path, capsys):
    first = load("truthfulness").items(settings("truthfulness"), 0)[0]
    answer = served.answer

    def merged(path, body):
        status, whole = answer(path, body)
        if body.get("echo") and body["prompt"] == f"{first.prompt} {first.options[0].text}":
            told, place = whole["choices"][0]["logprobs"], len(first.prompt) - 1
            told["tokens"][place : place + 2] = ["".join(told["tokens"][place : place + 2])]
            del told["token_logprobs"][place]
            whole["usage"]["prompt_tokens"] -= 1
        return status, whole

    served.answer = merged
    record = served_run(served, "truthfulness", tmp_path / "t")

    options = Evaluation(record).options()
    lost = options[options.logprob.isna()]
    assert list(lost.text) == [first.options[0].text] and list(lost.tokens) == [0]
    assert "across the border" in capsys.readouterr().err
    assert math.isnan(Evaluation(record).items().set_index("item_id").trust[first.id])


def test_a_key_is_sent_and_written_nowhere(served, tmp_path, monkeypatch):
    served.need_key = "sk-secret"
    monkeypatch.setenv("MY_KEY", "wrong-key")
    with pytest.raises(ModelError, match="environment variable MY_KEY") as caught:
        served_run(served, "toxicity", tmp_path / "t", key_env="MY_KEY")
    assert "wrong-key" not in str(caught.value) and "***" in str(caught.value)

    monkeypatch.setenv("MY_KEY", "sk-secret")
    record = served_run(served, "toxicity", tmp_path / "t", key_env="MY_KEY")
    assert set(served.keys[1:]) == {"Bearer sk-secret"}
    assert not any(b"sk-secret" in path.read_bytes() for path in record.folder.rglob("*") if path.is_file())


def test_a_name_that_is_not_served_is_answered_with_those_that_are(served, tmp_path):
    with pytest.raises(ModelError, match=r"model 'other'.*It serves: tiny\."):
        served_run(served, "toxicity", tmp_path / "t", model="other")


def test_a_trained_checkpoint_needs_a_name_at_the_server(served, tmp_path):
    trained = Checkpoint("starter", (str(tmp_path),))
    given = backends.configure({"name": "openai", "base_url": served.url})
    with pytest.raises(ConfigError, match=r"model: NAME"):
        run(trained, "toxicity", settings("toxicity"), tmp_path / "dpo" / "toxicity", backend=given)

    served.names.add("run-dpo")
    given = given.model_copy(update={"model": "run-{stage}"})
    record = run(trained, "toxicity", settings("toxicity"), tmp_path / "dpo" / "t", backend=given, model_hash="abc")
    assert record.config["backend"]["served"] == "run-dpo" and record.inputs["checkpoint"] == "abc"


def test_a_server_that_is_another_half_way_is_said(served, tmp_path, capsys):
    answer, count = served.answer, iter(range(1000))
    served.answer = lambda *asked: setattr(served, "fingerprint", f"fp_{next(count) // 4}") or answer(*asked)
    served_run(served, "toxicity", tmp_path / "t")
    assert "fingerprint was fp_0 and is fp_1" in capsys.readouterr().err


def test_the_draws_of_the_papers_scripts_are_refused(served, tmp_path, monkeypatch):
    drawn = Sampling(4, 8, 0.7, as_scripts=True, num_beams=4)
    monkeypatch.setattr(load("toxicity").Config, "sampling", drawn)
    with pytest.raises(ConfigError, match=r"toxicity: protocol paper .* needs backend hf"):
        served_run(served, "toxicity", tmp_path / "t")


def test_the_command_line_evaluates_a_served_model(served, tmp_path):
    asked = ["evaluate", "tiny", "--vertical", "toxicity", "--limit", "2", "--set", "max_new_tokens=4", "--json"]
    where = ["--backend", "openai", "--backend-set", f"base_url={served.url}", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*asked, *where])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)[0]
    assert found["name"] == "evaluate/tiny/toxicity" and found["summary"]["items"] == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("opnai", "unknown backend 'opnai'; known: hf, openai"),
        ({"name": "openai", "base_url": "localhost:8000"}, "no URL"),
        ({"name": "openai", "base_url": "https://me:pw@host/v1"}, "holds a key or a password"),
        ({"name": "openai", "retries": -1, "modle": "x"}, "modle"),
        ({"name": "hf", "base_url": "http://host/v1"}, "base_url"),
    ],
)
def test_wrong_settings_are_said(given, words):
    with pytest.raises(ConfigError, match=words):
        backends.configure(given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"extra": {"api_key": "sk-secret"}}, "api_key would be written into every result"),
        ({"key_env": "sk-secret"}, "name of an environment variable"),
        ({"base_url": "https://host/v1?api-version=1"}, "before any"),
    ],
)
def test_no_setting_takes_a_key_or_repeats_one(given, words):
    with pytest.raises(ConfigError, match=words) as caught:
        backends.configure({"name": "openai", **given})
    assert "sk-secret" not in str(caught.value)
    backends.configure({"name": "openai", "extra": {"stop_token_ids": [1], "prompt_cache_key": "a", "max_tokens": 2}})


def twisted(served, change):
    """The server's answers after `change` was made to each."""
    answer = served.answer

    def changed(path, body):
        status, whole = answer(path, body)
        change(whole, whole.get("choices", [None])[0])
        return status, whole

    served.answer = changed


NONSENSE = {
    "a text where a message should be": lambda whole, choice: choice.update(message="Yes"),
    "no reason to end": lambda whole, choice: choice.update(finish_reason=""),
    "parts in place of a text": lambda whole, choice: choice.update(message={"content": [{"text": "Yes"}]}),
}


@pytest.mark.parametrize("change", NONSENSE.values(), ids=NONSENSE)
def test_an_answer_that_is_never_whole_is_one_message(served, tmp_path, change):
    twisted(served, change)
    with pytest.raises(ModelError, match=r"an answer that lacks something .* after 2 tries"):
        served_run(served, "toxicity", tmp_path / "t", format="chat", retries=1)


@pytest.mark.parametrize("change", [lambda told: {"tokens": told}, lambda told: [told], lambda told: "none"])
def test_log_probabilities_in_another_shape_are_one_message(served, tmp_path, change):
    served.can = {"echo"}
    twisted(served, lambda whole, choice: choice.update(logprobs=change(choice["logprobs"])))
    with pytest.raises(ModelError, match=r"needs log-likelihoods|lacks something"):
        served_run(served, "truthfulness", tmp_path / "t", retries=0)


@pytest.mark.parametrize("value", [5.0, float("-inf"), float("nan"), "-1.5", True])
def test_what_is_no_log_probability_is_missing_and_never_a_number(served, tmp_path, value):
    served.can = {"echo"}

    def change(whole, choice):
        if choice["logprobs"]:
            choice["logprobs"]["token_logprobs"] = [value] * len(choice["logprobs"]["tokens"])

    twisted(served, change)
    record = served_run(served, "truthfulness", tmp_path / "t")
    assert Evaluation(record).options().logprob.isna().all() and record.summary["trust"]["missing"] == 4


def test_odd_tokens_and_halves_of_characters_are_no_reason_to_fail(served, tmp_path):
    twisted(served, lambda whole, choice: choice.update(token_ids=["a", 2**40], text="half \ud800 of it"))
    record = served_run(served, "toxicity", tmp_path / "t")
    frame = Evaluation(record).frame()
    assert set(frame.response) == {"half \ufffd of it"} and frame.response_ids.isna().all()


def test_another_tokenizer_is_another_identity(served, tiny_folder, tmp_path):
    import shutil

    folder = tmp_path / "tokenizer"
    shutil.copytree(tiny_folder, folder)
    first = served_run(served, "toxicity", tmp_path / "t", tokenizer=str(folder))
    assert served_run(served, "toxicity", tmp_path / "t", tokenizer=str(folder)) == first

    (folder / "extra.json").write_text("{}")
    assert served_run(served, "toxicity", tmp_path / "t", tokenizer=str(folder)).identity != first.identity
