"""Logs of lm-eval and Inspect: synthetic ones in their format, and (slow) ones that the installed harness writes."""

import json
import math
import subprocess
import sys
import zipfile
import zlib

import pytest

from preftrace.errors import DataError
from preftrace.evaluate import compare, logs
from preftrace.evaluate.compare import CompareConfig

QUICK = CompareConfig(resamples=200)
DATE = "2026-01-02T03-04-05.678901"


@pytest.fixture
def lm_eval(tmp_path):
    """lm_eval(run, rows): `samples_arc_easy_DATE.jsonl` and its results below a folder of the model."""

    def write(run, rows, better=None, task="arc_easy"):
        folder = tmp_path / run / "some__model"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"samples_{task}_{DATE}.jsonl"
        path.write_text("".join(json.dumps({"prompt_hash": "p", "filter": "none", **row}) + "\n" for row in rows))
        if better is not None:
            (folder / f"results_{DATE}.json").write_text(json.dumps({"higher_is_better": {task: better}}))
        return path

    return write


def rows_of(values, **more):
    return [{"doc_id": i, "doc_hash": f"h{i}", "metrics": ["acc"], "acc": v, **more} for i, v in enumerate(values)]


def test_samples_of_lm_eval_are_paired_by_document(lm_eval, tmp_path):
    lm_eval("a", rows_of([0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]))
    lm_eval("b", rows_of([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])[::-1])
    found = {s: compare.find_evaluations(tmp_path / s) for s in "ab"}
    assert list(found["a"]) == ["arc_easy"]
    (row,) = compare.compare(found, QUICK)
    assert (row.vertical, row.measure, row.claim, row.test) == ("arc_easy", "acc", True, "mcnemar")
    assert (row.n_items, row.n_missing) == (6, 1)
    assert row.difference == pytest.approx(0.5)
    record = compare.compare_stage(found, tmp_path / "out", QUICK)
    assert record.summary["claims"] == 1


def test_further_measures_and_filters_have_names_and_directions(lm_eval):
    rows = [
        {
            "doc_hash": f"h{i}",
            "filter": name,
            "metrics": ["exact_match", "loss"],
            "exact_match": 1.0,
            "loss": i,
            "n": [1],
        }
        for name in ("strict", "flexible")
        for i in range(3)
    ]
    log = logs.read(lm_eval("a", rows, {"exact_match": True, "loss": False}, task="gsm8k"))
    metrics = log.record.summary["metrics"]
    assert log.record.summary["claim"] == "exact_match,strict"
    assert {name: m["better"] for name, m in metrics.items()} == {
        "exact_match,strict": "higher",
        "loss,strict": "lower",
        "exact_match,flexible": "higher",
        "loss,flexible": "lower",
    }
    assert log.items.column("loss,strict").to_pylist() == [0, 1, 2]


def test_without_results_perplexities_are_lower_and_null_is_missing(lm_eval):
    rows = [{"doc_hash": "h", "metrics": ["word_perplexity", "acc", "parts"], "word_perplexity": 3, "acc": None}]
    log = logs.read(lm_eval("a", rows))
    assert log.record.summary["metrics"]["word_perplexity"]["better"] == "lower"
    assert log.record.summary["metrics"]["acc"]["better"] == "higher"
    assert math.isnan(log.items.column("acc")[0].as_py())


def test_the_same_document_twice_is_one_item(lm_eval):
    log = logs.read(lm_eval("a", [*rows_of([1.0, 0.0]), *rows_of([0.0])]))
    assert log.items.column("acc").to_pylist() == [0.5, 0.0]


def test_other_prompts_cannot_be_compared(lm_eval):
    found = {s: compare.find_evaluations(lm_eval(s, rows_of([1.0, 0.0], prompt_hash=s))) for s in "ab"}
    with pytest.raises(DataError, match="in different words"):
        compare.compare(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: not JSON"),
        ('{"doc_hash": 1, "metrics": []}', "doc_hash must be a text"),
        ("[]", "no sample of lm-eval"),
        ("", "no sample with a score"),
        ('{"doc_hash": "h", "metrics": ["m"], "m": [1, 2]}', "no sample with a score"),
        (b"\xff\xfe", "not text in UTF-8"),
    ],
)
def test_what_is_no_log_of_lm_eval_is_one_clear_message(tmp_path, text, message):
    path = tmp_path / "samples_x.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        logs.read(path)


def test_two_logs_of_one_task_are_not_guessed_between(lm_eval, tmp_path):
    path = lm_eval("a", rows_of([1.0]))
    path.with_name("samples_arc_easy_2027-01-01T00-00-00.0.jsonl").write_text(path.read_text())
    with pytest.raises(DataError, match="two logs of arc_easy"):
        compare.find_evaluations(tmp_path / "a")


def test_what_predict_only_writes_is_no_score(lm_eval):
    with pytest.raises(DataError, match="no sample with a score"):
        logs.read(lm_eval("a", [{"doc_hash": "h", "metrics": ["bypass"], "bypass": 999}]))


@pytest.mark.parametrize(
    ("text", "message"),
    [("[" * 100_000, "line 1: not JSON"), ('{"doc_hash": "h", "metrics": ["m"], "m": 1' + "0" * 400 + "}", None)],
    ids=["endless depth", "a number beyond floats"],
)
def test_absurd_samples_are_one_message_or_missing(tmp_path, text, message):
    path = tmp_path / "samples_x.jsonl"
    path.write_text(text)
    if message:
        with pytest.raises(DataError, match=message):
            logs.read(path)
    else:
        assert math.isnan(logs.read(path).items.column("m")[0].as_py())


def test_logs_with_other_measures_are_not_compared_in_silence(lm_eval):
    found = {s: compare.find_evaluations(lm_eval(s, rows_of([1.0, 0.0]))) for s in "a"}
    filtered = [row for name in ("x", "y") for row in rows_of([1.0, 0.0], filter=name)]
    found["b"] = compare.find_evaluations(lm_eval("b", filtered))
    with pytest.raises(DataError, match="has no acc, which the comparison is about"):
        compare.compare(found)


def test_directions_come_from_the_results_and_must_agree(lm_eval, tmp_path):
    found = {s: compare.find_evaluations(lm_eval(s, rows_of([0.0] * 9), {"acc": False})) for s in "a"}
    found["b"] = compare.find_evaluations(lm_eval("b", rows_of([1.0] * 9)))
    with pytest.raises(DataError, match="do not agree on which direction of acc"):
        compare.compare(found)

    first = compare.compare_stage({"a": found["b"], "b": found["b"]}, tmp_path / "out", QUICK)
    lm_eval("b", rows_of([1.0] * 9), {"acc": False})
    again = compare.compare_stage({"a": found["b"], "b": found["b"]}, tmp_path / "out", QUICK)
    assert again.identity != first.identity, "the file beside the log says something else now"
    (row,) = compare.compare({"a": compare.find_evaluations(lm_eval("a", rows_of([0.0] * 9))), "b": found["b"]}, QUICK)
    assert (row.better, row.verdict) == ("lower", "worse")


def test_our_own_tasks_say_which_items_move_together(lm_eval):
    def rows(*values):
        labels = [{"cluster": f"c{i // 3}", "crossed": f"k{i % 3}", "unit": ""} for i in range(9)]
        return [
            {**row, "doc": {"preftrace": own}, "metrics": ["trust"], "trust": v}
            for row, own, v in zip(rows_of(values), labels, values, strict=True)
        ]

    sides = {"a": (0.1, 0.2, 0.3) * 3, "b": (0.2, 0.4, 0.35, 0.3, 0.2, 0.6, 0.5, 0.1, 0.3)}
    found = {s: compare.find_evaluations(lm_eval(s, rows(*v), task="preftrace_x")) for s, v in sides.items()}
    (row,) = compare.compare(found, QUICK)
    assert (row.test, row.n_clusters, row.n_crossed) == ("two-way", 3, 3)


def sample(name, value, epoch=1, text="Q?"):
    scores = {"match": {"value": value, "answer": "x"}} if value is not None else None
    return {"id": name, "epoch": epoch, "input": text, "target": "x", "scores": scores}


HEADER = {"version": 2, "status": "success", "eval": {"task": "pkg/tiny", "config": {"epochs": 2}}}


def eval_file(path, samples, header=HEADER, zstd=False):
    """An `.eval`; with `zstd`, members whose directory entry says so, in two frames."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if zstd else zipfile.ZIP_DEFLATED) as archive:
        for name, value in [
            *((f"samples/{s['id']}_epoch_{s['epoch']}.json", s) for s in samples),
            ("header.json", header),
        ]:
            data = json.dumps(value).encode()
            if not zstd:
                archive.writestr(name, data)
                continue
            import pyarrow as pa

            frames = [pa.compress(part, codec="zstd", asbytes=True) for part in (data[:9], data[9:])]
            archive.writestr(name, b"".join(frames))
            info = archive.getinfo(name)
            info.compress_type, info.file_size, info.CRC = 93, len(data), zlib.crc32(data)
    return path


@pytest.mark.parametrize("form", ["deflate", "zstd", "json"])
def test_samples_of_inspect_are_means_over_epochs(tmp_path, form):
    samples = [sample("a", "C"), sample("a", "I", 2), sample("b", "P"), sample("b", None, 2), sample("c", None)]
    if form == "json":
        path = tmp_path / "log.json"
        path.write_text(json.dumps({**HEADER, "samples": samples}))
    else:
        path = eval_file(tmp_path / "log.eval", samples, zstd=form == "zstd")
    (task,) = logs.find(tmp_path)
    log = logs.read(path)
    assert task == "tiny" and log.record.summary["claim"] == "match"
    assert log.items.column("item_id").to_pylist() == ["a", "b", "c"]
    values = log.items.column("match").to_pylist()
    assert values[:2] == [0.5, 0.5] and math.isnan(values[2])


def test_logs_of_inspect_are_compared_by_sample(tmp_path):
    for name, values in (("a", "CICI"), ("b", "CCCC")):
        (tmp_path / name).mkdir()
        eval_file(tmp_path / name / "x.eval", [sample(i, v) for i, v in enumerate(values)], zstd=True)
    (row,) = compare.compare({s: compare.find_evaluations(tmp_path / s) for s in "ab"}, QUICK)
    assert (row.vertical, row.measure, row.difference, row.n_items) == ("tiny", "match", 0.5, 4)


def test_a_scorer_of_several_values_and_words(tmp_path):
    values = {"len": 3, "ok": True, "said": "yes", "text": "long"}
    log = logs.read(eval_file(tmp_path / "x.eval", [sample("a", values)]))
    assert log.items.column_names[3:] == ["match/len", "match/ok", "match/said"]
    assert [log.items.column(n)[0].as_py() for n in log.items.column_names[3:]] == [3, 1, 1]


def test_an_unfinished_or_broken_log_of_inspect_is_one_clear_message(tmp_path):
    with pytest.raises(DataError, match="status 'error'"):
        logs.read(eval_file(tmp_path / "a.eval", [sample("a", "C")], {**HEADER, "status": "error"}))
    broken = tmp_path / "b.eval"
    broken.write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(DataError, match="cannot be opened"):
        logs.read(broken)
    with pytest.raises(DataError, match="no log of Inspect"):
        logs.read(eval_file(tmp_path / "c.eval", [], ["no header"]))
    torn = eval_file(tmp_path / "d.eval", [sample("a", "C")], zstd=True)
    data = bytearray(torn.read_bytes())
    data[60] ^= 0xFF
    torn.write_bytes(data)
    with pytest.raises(DataError, match="copied whole"):
        logs.read(torn)


@pytest.mark.parametrize("scores", [[1, 2], "C", {"match": "C"}, {"match": [1]}])
def test_scores_in_another_shape_are_missing(tmp_path, scores):
    odd = {**sample("b", "C"), "scores": scores}
    log = logs.read(eval_file(tmp_path / "x.eval", [sample("a", "C"), odd], {**HEADER, "eval": {"config": ["odd"]}}))
    values = log.items.column("match").to_pylist()
    assert values[0] == 1 and math.isnan(values[1])


def test_a_folder_that_is_called_as_a_log_is_none(tmp_path):
    for name in ("odd.eval", "odd.json", "samples_odd.jsonl"):
        (tmp_path / name).mkdir()
    eval_file(tmp_path / "x.eval", [sample("a", "C")])
    assert list(logs.find(tmp_path)) == ["tiny"]


def test_our_own_tasks_in_inspect_say_directions_clusters_and_settings(tmp_path):
    def write(name, values, **settings):
        own = {"higher_is_better": {"trust": True, "leak_rate": False}, "settings": settings}
        header = {**HEADER, "eval": {"task": "preftrace/privacy", "metadata": own, "task_version": 2}}
        samples = [
            {**sample(i, {"trust": 1 - v, "leak_rate": v}), "metadata": {"preftrace": {"cluster": f"c{i // 2}"}}}
            for i, v in enumerate(values)
        ]
        return compare.find_evaluations(eval_file(tmp_path / f"{name}.eval", samples, header))

    found = {"a": write("a", [0.0] * 40, samples=2), "b": write("b", [0.5, 1.0] * 20, samples=2)}
    rows = compare.compare(found, QUICK)
    assert [(r.measure, r.verdict, r.n_clusters) for r in rows] == [
        ("match/trust", "worse", 20),
        ("match/leak_rate", "worse", 20),
    ]
    with pytest.raises(DataError, match="samples 2 and 5"):
        compare.compare({"a": found["a"], "b": write("c", [0.0] * 40, samples=5)})


def test_a_folder_of_neither_says_what_could_be_named(tmp_path):
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(DataError, match="a log of lm-eval"):
        compare.find_evaluations(tmp_path)


LM_TASK = """task: tiny_mc
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.mark.slow
def test_what_lm_eval_writes_is_read(tmp_path):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    rows = [{"q": f"{i}?", "choices": ["a", "b"], "label": 0} for i in range(6)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tiny.yaml").write_text(LM_TASK.replace("DATA", str(tmp_path / "d.jsonl")))
    words = ["-m", "lm_eval", "--model", "dummy", "--tasks", "tiny_mc", "--include_path", str(tmp_path)]
    words += ["--output_path", str(tmp_path / "out"), "--log_samples"]
    subprocess.run([sys.executable, *words], check=True, capture_output=True, cwd=tmp_path)
    found = compare.find_evaluations(tmp_path / "out")
    log = logs.read(found["tiny_mc"])
    results = json.loads(next((tmp_path / "out").rglob("results_*.json")).read_text())
    assert log.items.num_rows == 6
    assert sum(log.items.column("acc").to_pylist()) / 6 == results["results"]["tiny_mc"]["acc,none"]


INSPECT = """
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import match
outputs = [ModelOutput.from_content("mockllm", "yes" if i % 3 else "no") for i in range(10)]
for output in outputs:
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
samples = [Sample(id=f"s{i}", input=f"{i}?", target="yes") for i in range(5)]
task = Task(name="tiny", dataset=samples, scorer=match(), epochs=2)
model = get_model("mockllm/model", custom_outputs=outputs)
eval(task, model=model, log_dir="out", log_format="FORM", display="none")
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["eval", "json"])
def test_what_inspect_writes_is_read(tmp_path, form):
    pytest.importorskip("inspect_ai", reason="inspect-ai is not installed")
    subprocess.run([sys.executable, "-c", INSPECT.replace("FORM", form)], check=True, capture_output=True, cwd=tmp_path)
    from inspect_ai.log import read_eval_log

    path = compare.find_evaluations(tmp_path / "out")["tiny"]
    log = logs.read(path)
    shown = read_eval_log(str(path)).results.scores[0].metrics["accuracy"].value
    assert log.items.num_rows == 5
    assert sum(log.items.column("match").to_pylist()) / 5 == pytest.approx(shown)
