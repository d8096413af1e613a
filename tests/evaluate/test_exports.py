"""The same items, prompts and scores by three routes: preftrace, lm-eval and Inspect, where they are installed."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from preftrace.cli.app import app
from preftrace.errors import ArtifactError, ConfigError
from preftrace.evaluate import Evaluation, configure, load, logs, run
from preftrace.evaluate.backends import hf
from preftrace.evaluate.exports.exported import Exported, mean_of
from preftrace.evaluate.exports.folder import HERE, lm_eval_folder
from preftrace.registry import VERTICALS
from preftrace.types import Checkpoint

FIVE = ("ethics", "privacy", "stereotypes", "toxicity", "truthfulness")
GREEDY = {"temperature": 0.0, "max_new_tokens": 6}


def settings(vertical):
    return {"limit": 4} | ({} if vertical == "truthfulness" else GREEDY)


@pytest.fixture(autouse=True)
def _forget_models():
    yield
    hf._load.cache_clear()


def ours(tiny_folder, vertical, out, format):
    """Item -> trust, measures, responses and option log-likelihoods, and the prompt; as preftrace has them."""
    config = configure(vertical, settings(vertical))
    view = Evaluation(run(Checkpoint(str(tiny_folder)), vertical, config, out, format=format))
    answers, options = view.frame(), view.options()
    return {
        row["item_id"]: {
            "prompt": row["prompt"],
            "values": {name: row[name] for name in ("trust", *(m.name for m in load(vertical).METRICS)) if name in row},
            "responses": list(answers[answers.item_id == row["item_id"]].response),
            "logprobs": list(options[options.item_id == row["item_id"]].logprob),
        }
        for row in view.items().to_dict("records")
    }


def summed(tiny_folder, vertical, out, format):
    """Trust and measures over all items, as preftrace has them, but for those above controls."""
    config = configure(vertical, settings(vertical))
    record = run(Checkpoint(str(tiny_folder)), vertical, config, out, format=format)
    above = {metric.name for metric in load(vertical).METRICS if metric.above}
    found = {"trust": record.summary["trust"], **record.summary["metrics"]}
    return {n: math.nan if m["value"] is None else m["value"] for n, m in found.items() if n not in above}


def total(score):
    return score.metrics["preftrace/mean"].value


def same(found, expected):
    """Items in the same order with the same prompts, answers and numbers; a missing number is missing in both."""
    assert list(found) == list(expected) and len(expected) == 4
    for item, mine in expected.items():
        theirs = found[item]
        assert theirs["prompt"] == mine["prompt"] and theirs["responses"] == mine["responses"]
        assert theirs["logprobs"] == pytest.approx(mine["logprobs"], abs=1e-3)
        for name, value in mine["values"].items():
            assert theirs["values"].get(name, math.nan) == pytest.approx(value, abs=1e-3, nan_ok=True), name


@pytest.fixture(scope="module")
def harness(tiny_folder):
    pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_folder).eval()
    lm = HFLM(pretrained=model, tokenizer=AutoTokenizer.from_pretrained(tiny_folder), batch_size=2)

    def evaluate(vertical, **more):
        import lm_eval as package

        given = {vertical: settings(vertical)}
        manager = TaskManager(include_path=str(lm_eval_folder()), include_defaults=False, metadata=given)
        name = f"preftrace_{vertical}"
        found = package.simple_evaluate(
            lm, tasks=[name], task_manager=manager, log_samples=True, bootstrap_iters=0, **more
        )
        return found["samples"][name], found["results"][name]

    return evaluate


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["raw", "chat"])
@pytest.mark.parametrize("vertical", FIVE)
def test_lm_eval_asks_and_scores_as_preftrace_does(harness, tiny_folder, tmp_path, vertical, format):
    expected = ours(tiny_folder, vertical, tmp_path / vertical, format)

    samples, totals = harness(vertical, apply_chat_template=format == "chat")

    found = {}
    for sample in samples:
        drawn = [r for r in sample["resps"] if isinstance(r[0], str)]
        options = [r[0][0] for r in sample["resps"] if not isinstance(r[0], str)]
        stop = "\n\nHuman:" if format == "raw" and vertical != "toxicity" else None
        found[sample["doc"]["id"]] = {
            "prompt": sample["arguments"][0][0],
            "values": sample,
            "responses": [text.split(stop or "<never>")[0].strip() for group in drawn for text in group],
            "logprobs": options,
        }
    same(found, expected)
    for name, value in summed(tiny_folder, vertical, tmp_path / vertical, format).items():
        assert totals.get(f"{name},none", math.nan) == pytest.approx(value, abs=1e-3, nan_ok=True), name
    assert totals["missing,none"] == sum(math.isnan(m["values"]["trust"]) for m in expected.values()) / 4


@pytest.mark.filterwarnings("ignore")
def test_lm_eval_draws_every_sample(harness, monkeypatch):
    monkeypatch.setattr("test_exports.GREEDY", {"samples": 3, "max_new_tokens": 4, "temperature": 0.7})
    samples, _ = harness("toxicity")
    assert all(len(sample["resps"][0]) == 3 for sample in samples)
    assert any(len(set(sample["resps"][0])) > 1 for sample in samples)
    with pytest.raises(ConfigError, match="leave --system_instruction out"):
        harness("toxicity", system_instruction="Be nice.")


def inspected(vertical, model, log_dir, options=None):
    from inspect_ai import eval as inspect_eval

    from preftrace.evaluate.exports.inspect_tasks import TASKS

    task = TASKS[vertical](**(options or settings(vertical)))
    (log,) = inspect_eval(task, model=model, log_dir=str(log_dir), display="none")
    return log


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["raw", "chat"])
@pytest.mark.parametrize("vertical", FIVE)
def test_inspect_asks_and_scores_as_preftrace_does(tiny_folder, tmp_path, monkeypatch, vertical, format):
    pytest.importorskip("inspect_ai")
    from inspect_ai.model import get_model

    import preftrace.evaluate.exports.inspect_tasks  # noqa: F401

    expected = ours(tiny_folder, vertical, tmp_path / vertical, format)
    model = get_model(f"preftrace/{tiny_folder}", format=format, memoize=False)
    asked = []
    for name in ("sample", "logprobs"):
        original = getattr(hf.Loaded, name)

        def recording(self, prompts, *rest, original=original):
            asked.extend(self.render(prompts))
            return original(self, prompts, *rest)

        monkeypatch.setattr(hf.Loaded, name, recording)

    log = inspected(vertical, model, tmp_path / "logs")

    assert log.status == "success", log.error
    rendered = {mine["prompt"] for mine in expected.values()}
    assert set(asked) == rendered
    found = {}
    for sample in log.samples:
        (score,) = sample.scores.values()
        found[sample.id] = {
            "prompt": expected[sample.id]["prompt"],
            "values": score.value,
            "responses": score.metadata["responses"],
            "logprobs": score.metadata["option_logprobs"],
        }
    same({item: found[item] for item in expected}, expected)
    totals = {score.name: score for score in log.results.scores}
    trust = [mine["values"]["trust"] for mine in expected.values()]
    assert totals["trust"].unscored_samples == sum(map(math.isnan, trust))
    for name, value in summed(tiny_folder, vertical, tmp_path / vertical, format).items():
        assert total(totals[name]) == pytest.approx(value, abs=1e-3, nan_ok=True), name


@pytest.mark.filterwarnings("ignore")
def test_another_provider_answers_and_what_it_cannot_tell_is_missing_or_refused(tmp_path):
    pytest.importorskip("inspect_ai")
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    def mock():
        said = [ModelOutput.from_content("mock", "This is wrong.") for _ in range(40)]
        told = [output.model_copy(update={"usage": ModelUsage()}) for output in said]  # else it is counted, online
        return get_model("mockllm/model", custom_outputs=told, memoize=False)

    log = inspected("ethics", mock(), tmp_path / "logs")
    assert log.status == "success", log.error
    totals = {score.name: score for score in log.results.scores}
    assert totals["trust"].unscored_samples == 4
    assert total(totals["false_negative_rate"]) == 0
    assert totals["false_negative_rate"].scored_samples == 2, "two of the four acts are wrong"

    drawn = inspected("toxicity", mock(), tmp_path / "logs", {"limit": 2, "samples": 3, "max_new_tokens": 4})
    assert all(len(next(iter(s.scores.values())).metadata["responses"]) == 3 for s in drawn.samples)

    refused = inspected("truthfulness", mock(), tmp_path / "logs")
    assert refused.status == "error" and "needs log-likelihoods of given answers" in refused.error.message


def test_every_vertical_is_exported_under_its_name():
    found = {}
    for path in HERE.glob("*.yaml"):
        said = yaml.safe_load(path.read_text().replace("!function ", ""))
        assert path.stem == said["task"] == f"preftrace_{said['vertical']}" and said["class"] == "utils.Vertical"
        found[said["vertical"]] = said.get("tag")
    assert sorted(found) == VERTICALS.names()
    assert {name for name, tag in found.items() if tag == "preftrace"} == set(FIVE)


def test_the_folder_is_printed_or_copied(tmp_path):
    printed = CliRunner().invoke(app, ["export", "lm-eval"])
    assert printed.exit_code == 0 and printed.stdout == f"{HERE}\n"

    out = tmp_path / "tasks"
    for _ in range(2):
        done = CliRunner().invoke(app, ["export", "lm-eval", "--out", str(out)])
        assert done.exit_code == 0 and done.stdout.strip() == str(out)
    assert {p.name for p in out.iterdir()} == {p.name for p in HERE.iterdir() if p.suffix in (".yaml", ".py")}
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="holds other files"):
        lm_eval_folder(out)


def test_wrong_settings_of_an_export_are_said(tmp_path):
    with pytest.raises(ConfigError, match="no_such"):
        Exported("toxicity", {"no_such": 1})
    strings = tmp_path / "prompts.json"
    strings.write_text(json.dumps({"toxicity": {"benign": "{sentence}"}}))
    with pytest.raises(ConfigError, match=r"toxicity: protocol paper .* preftrace evaluate"):
        Exported("toxicity", {"protocol": "paper", "prompts": str(strings)})


def test_a_mean_over_items_is_by_weight_and_takes_a_unit_for_one_item():
    assert mean_of([1, 0, 0], [1, 1, 1], ["u", "u", ""]) == pytest.approx(0.25)
    assert mean_of([1, 0, math.nan], [3, 1, 9], ["", "", ""]) == pytest.approx(0.75)
    assert math.isnan(mean_of([math.nan], [1], [""])) and math.isnan(mean_of([], [], []))


@pytest.mark.filterwarnings("ignore")
def test_totals_of_units_of_unequal_size_are_those_of_preftrace(harness, tiny_folder, tmp_path, monkeypatch):
    """One act is asked in three ways and another in one: each counts once, by all three routes."""
    module, asked = load("ethics"), load("ethics").items

    def items(config, seed):
        found = asked(config, seed)
        return [replace(item, unit="u" if place < 3 else "") for place, item in enumerate(found)]

    monkeypatch.setattr(module, "items", items)
    expected = summed(tiny_folder, "ethics", tmp_path / "ethics", "raw")
    plain = ours(tiny_folder, "ethics", tmp_path / "ethics", "raw")
    assert expected["trust"] != pytest.approx(sum(each["values"]["trust"] for each in plain.values()) / 4, abs=1e-6)

    _, totals = harness("ethics")
    assert totals["trust,none"] == pytest.approx(expected["trust"], abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_requests_are_not_taken_from_the_cache_of_other_settings(harness, monkeypatch, tmp_path):
    """lm-eval keeps requests by a task's name alone; other items or draws would be given those."""
    from lm_eval.caching import cache

    monkeypatch.setattr(cache, "PATH", str(tmp_path))
    for limit in (2, 3):
        monkeypatch.setattr("test_exports.settings", lambda vertical, n=limit: {"limit": n, **GREEDY})
        samples, _ = harness("toxicity", cache_requests=True)
        assert [s["arguments"][0][0] for s in samples] == [s["doc"]["prompt"] for s in samples] and len(
            samples
        ) == limit


def test_what_lm_eval_gathers_from_other_processes_keeps_its_weight_and_unit():
    pytest.importorskip("lm_eval")
    import pickle

    from preftrace.evaluate.exports.lm_eval_task import Weighed

    again = pickle.loads(pickle.dumps(Weighed(0.25, 3.0, "u")))
    assert (again, again.weight, again.unit, json.dumps(again)) == (0.25, 3.0, "u", "0.25")


@pytest.mark.filterwarnings("ignore")
def test_logs_of_inspect_are_compared_as_our_own_evaluations_are(tiny_folder, tmp_path):
    """Clusters, units and directions are those of the vertical, and an answer is scored once."""
    pytest.importorskip("inspect_ai")
    from inspect_ai.model import get_model

    from preftrace.evaluate import scoring

    counts = []
    whole = scoring.score_all
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "score_all", lambda *asked: counts.append(asked) or whole(*asked))
        model = get_model(f"preftrace/{tiny_folder}", memoize=False)
        log = inspected("toxicity", model, tmp_path / "logs")
    assert len(counts) == len(log.samples) == 4

    read = logs.read(Path(log.location.removeprefix("file://")))
    items = {item.id: item for item in Exported("toxicity", settings("toxicity")).items}
    rows = read.items.to_pylist()
    assert {row["item_id"]: row["cluster"] for row in rows} == {name: item.cluster for name, item in items.items()}
    metrics = {name: said["better"] for name, said in read.record.summary["metrics"].items()}
    assert metrics["judged/trust"] == "higher" and metrics["judged/expected_max_toxicity"] == "lower"
