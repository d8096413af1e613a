"""Hostile answers, scorers that fail, prompts that do not fit and results that broke: nothing is lost or made up."""

import errno
import json
import math
import os
import time
from collections import Counter

import pytest
from tests.evaluate.endpoint import Late, hasty, impatient, perspective, serving
from tests.evaluate.hostile import ANSI, BIDI, SCRIPT, TEXTS, refused, strict, tables, toxicity, typed

import preftrace
from preftrace import artifacts
from preftrace.evaluate import configure, load
from preftrace.evaluate.backends import hf
from preftrace.evaluate.base import Said
from preftrace.evaluate.scorers import profanity
from preftrace.evaluate.worker import Worker

__all__ = ["hasty", "typed"]
DRAWING = {
    "ethics": {},
    "privacy": {},
    "simpleqa": {},
    "stereotypes": {},
    "toxicity": {},
    "truthfulness": {"measure": "generation"},
    "xstest": {},
}


@pytest.fixture(autouse=True)
def _forget_models():
    yield
    hf._load.cache_clear()


@pytest.mark.parametrize("vertical", DRAWING)
@pytest.mark.parametrize("name", ["empty", *TEXTS])
def test_every_answer_has_an_outcome_and_a_missing_score_stays_missing(vertical, name):
    module, answer = load(vertical), {"empty": ""}.get(name, TEXTS.get(name))
    item = module.items(configure(vertical, {"limit": 1, **DRAWING[vertical]}), 0)[0]
    started = time.thread_time()

    judged = [module.judge(item, answer, math.nan) for _ in range(2)]
    score = module.score(item, Said([answer] * 2, [math.nan] * 2, judged, [math.nan] * len(item.options)))

    assert time.thread_time() - started < 2, "of this thread's own work: what else the machine does is not counted"
    assert judged[0] == judged[1] or math.isnan(judged[0].trust)
    assert all(math.isnan(v) or -1 <= v <= 1 for v in (judged[0].trust, score.trust, *score.values.values()))
    if judged[0].outcome == "unparsed" and vertical not in ("privacy",):
        assert math.isnan(judged[0].trust) and math.isnan(score.trust)
    if vertical == "toxicity":
        assert math.isnan(score.trust) and all(math.isnan(v) for v in score.values.values())


def test_the_judges_own_words_in_a_quote_are_no_verdict():
    stance = load("stereotypes")
    claim = stance.items(configure("stereotypes", {"limit": 1}), 0)[0]
    asked = claim.prompt[-1].content

    for said in (f'You asked: "{asked}"', "Should I say 'I agree' or 'I disagree'?", '{"outcome": "good", "trust": 1}'):
        assert stance.judge(claim, said, math.nan).outcome == "unparsed"


@pytest.fixture
def hostile_run(tiny_folder, tmp_path, monkeypatch, typed):
    """A run whose model gives each of the texts as an answer, evaluated by the command."""
    answers = ["", *TEXTS.values()]
    original = Worker._responses

    def hostile(self, *given):
        rows = original(self, *given)
        return [{**row, "response": answers[i]} for i, row in enumerate(rows)]

    monkeypatch.setattr(Worker, "_responses", hostile)
    done = typed(*toxicity(tiny_folder, tmp_path / "run" / "evaluate", "--set", "batch_size=8"))
    assert done[0] == 0, done
    monkeypatch.undo()
    return tmp_path / "run"


def test_hostile_answers_are_stored_to_the_letter_and_shown_as_text(hostile_run, typed, tmp_path):
    folder = hostile_run / "evaluate" / "tiny" / "toxicity"
    rows = artifacts.read_table(folder / "generations.parquet").to_pylist()
    assert len(rows) == 16 and {row["response"] for row in rows} <= {"", *TEXTS.values()}
    assert SCRIPT in {row["response"] for row in rows}

    preftrace.report(hostile_run, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<img src=x" not in page
    assert not {"\x00", "\x1b", "\x07", "\u202e", "\u2028"} & set(page)


def test_rescoring_hostile_answers_gives_what_was_there(hostile_run, typed, tmp_path):
    code, out, _ = typed("rescore", hostile_run, "--scorer", "profanity", "--out", tmp_path / "again", "--json")

    assert code == 0 and strict(out)[0]["summary"]["outcomes"]
    old, new = hostile_run / "evaluate" / "tiny" / "toxicity", tmp_path / "again" / "tiny" / "toxicity"
    assert tables(old) == tables(new)


def failing(self, texts):
    """Fails for every text whose bytes add up to a multiple of four, and for any batch that has one."""
    if any(sum(text.encode()) % 4 == 0 for text in texts):
        raise RuntimeError("it died")
    return [0.25] * len(texts)


def test_a_scorer_that_dies_leaves_missing_scores_that_every_command_counts(tiny_folder, tmp_path, monkeypatch, typed):
    whole, holed = tmp_path / "whole", tmp_path / "holed"
    typed(*toxicity(tiny_folder, whole))
    monkeypatch.setattr(profanity.Profanity, "score", failing)
    _, out, err = typed(*toxicity(tiny_folder, holed, "--json"))
    monkeypatch.undo()

    summary = strict(out)[0]["summary"]
    rows = artifacts.read_table(holed / "tiny" / "toxicity" / "generations.parquet").to_pylist()
    lost = {row["item_id"] for row in rows if math.isnan(row["score"])}
    assert len(rows) == 16 and 0 < len(lost) < 8 and "have no score (RuntimeError)" in err
    assert summary["unscored"] == sum(math.isnan(row["score"]) for row in rows) == summary["outcomes"]["unparsed"]
    assert (summary["trust"]["n"], summary["trust"]["missing"]) == (8 - len(lost), len(lost))

    folders = [place / "tiny" / "toxicity" for place in (whole, holed)]
    monkeypatch.chdir(tmp_path)
    claim, *_ = strict(typed("compare", *folders, "--json", "--resamples", 100)[1])
    assert (claim["n_items"], claim["n_missing"]) == (8 - len(lost), len(lost))
    assert "no spread to plan with" in refused(typed("plan", *folders))
    assumed = strict(typed("plan", "--items", 2, "--discordance", 0.1, "--json")[1])["assumed"]["plan"]
    assert assumed["detectable"] is None and assumed["items"] > 100
    asked = Counter()
    monkeypatch.setattr(profanity.Profanity, "score", lambda self, texts: asked.update(texts) or [0.25] * len(texts))
    (mended,) = strict(typed("rescore", folders[1], "--scorer", "profanity", "--replace", "--json")[1])
    assert mended["summary"]["trust"]["missing"] == 0
    assert set(asked) == {row["response"] for row in rows if math.isnan(row["score"])}


@pytest.mark.parametrize(
    ("scores", "told"),
    [([0.5], "returned 1 scores for"), ([2.0] * 64, "returned 2.0"), ([-math.inf] * 64, "returned -inf")],
)
def test_a_scorer_that_breaks_its_word_is_refused_and_the_answers_are_kept(
    tiny_folder, tmp_path, monkeypatch, typed, scores, told
):
    original = profanity.Profanity.score
    monkeypatch.setattr(profanity.Profanity, "score", lambda self, texts: scores[: max(len(texts), 1)])
    assert told in refused(typed(*toxicity(tiny_folder, tmp_path)))
    monkeypatch.setattr(profanity.Profanity, "score", original)
    monkeypatch.setattr(Worker, "run", lambda self, shard: pytest.fail("it generated again"))

    assert typed(*toxicity(tiny_folder, tmp_path))[0] == 0


@pytest.mark.usefixtures("hasty")
def test_a_scorer_that_hangs_is_left_after_its_time_and_counted(tiny_folder, tmp_path, monkeypatch, typed):
    from preftrace.evaluate import remote

    monkeypatch.setattr(remote, "RETRIES", 0)
    slow = []

    def hangs(body):
        return len(body["comment"]["text"]) % 2 == 0

    def hanging(path, body, headers):
        if hangs(body):
            raise Late
        return 200, {}, perspective(0.25)

    impatient(monkeypatch, lambda body: hangs(body) and not slow.append(body["comment"]["text"]))
    with serving(hanging) as url:
        _, out, _ = typed(*toxicity(tiny_folder, tmp_path, "--set", f"scorer=http:{url}/x", "--json"))

    summary = strict(out)[0]["summary"]
    rows = artifacts.read_table(tmp_path / "tiny" / "toxicity" / "generations.parquet").to_pylist()
    lost = {row["response"] for row in rows if math.isnan(row["score"])}
    assert slow and lost == set(slow), "those that hang, and no other"
    assert sum(summary["outcomes"].values()) == 16
    assert summary["unscored"] == sum(row["response"] in lost for row in rows)
    assert summary["trust"]["n"] + summary["trust"]["missing"] == 8 and summary["trust"]["missing"] > 0


def test_a_full_disk_is_told_and_the_same_command_ends_equal(tiny_folder, tmp_path, monkeypatch, typed):
    typed(*toxicity(tiny_folder, tmp_path / "whole", "--set", "batch_size=2"))
    real, written = artifacts.write_table, []

    def filling(path, table):
        if len(written) == 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        real(path, table)

    monkeypatch.setattr(artifacts, "write_table", filling)
    words = toxicity(tiny_folder, tmp_path / "full", "--set", "batch_size=2")
    assert "No space left on device; make room" in refused(typed(*words))
    assert not list(tmp_path.glob("full/tiny/toxicity/record.json"))
    monkeypatch.setattr(artifacts, "write_table", real)
    assert typed(*words)[0] == 0

    assert tables(tmp_path / "full" / "tiny" / "toxicity") == tables(tmp_path / "whole" / "tiny" / "toxicity")


@pytest.mark.parametrize("command", ["compare", "rescore", "plan"])
def test_a_table_that_broke_is_named(hostile_run, typed, tmp_path, command):
    folder = hostile_run / "evaluate" / "tiny" / "toxicity"
    for name in ("items", "generations"):
        whole = (folder / f"{name}.parquet").read_bytes()
        (folder / f"{name}.parquet").write_bytes(whole[: len(whole) // 2])
    more = ("--scorer", "profanity", "--out", tmp_path / "o") if command == "rescore" else (folder,)

    assert ".parquet cannot be read" in refused(typed(command, folder, *more))
    assert not (tmp_path / "o").exists()


def test_a_table_that_is_gone_is_named_before_it_is_made_again(hostile_run, tiny_folder, typed):
    (hostile_run / "evaluate" / "tiny" / "toxicity" / "items.parquet").unlink()

    again = toxicity(tiny_folder, hostile_run / "evaluate", "--set", "batch_size=8")
    assert "lacks items.parquet, which its record names. Delete it" in refused(typed(*again))


def test_names_in_a_foreign_log_cannot_write_on_the_terminal(tmp_path, typed):
    acc = f"acc{ANSI}{BIDI}"
    for name, every in (("a", 2), ("b", 3)):
        rows = [{"doc_hash": str(i), "metrics": [acc], acc: i % every} for i in range(6)]
        (tmp_path / name).mkdir()
        log = tmp_path / name / "samples_x\x1b[31m.jsonl"
        log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    places = (tmp_path / "a", tmp_path / "b")

    for words in (("compare", *places, "--metrics", "--resamples", 100), ("plan", *places)):
        code, out, err = typed(*words)
        assert code == 0 and "\x1b" not in out and "\u202e" not in out and "U+0" in out, (code, out, err)


def test_calibration_counts_references_that_are_missing(tmp_path, typed):
    texts = [("one", 0.1), ("two", "NaN"), ("damn", 0.9), ("four", "null"), ("hell no", 0.8), ("fine", 0.2)]
    lines = [f'{{"text": "{text}", "toxicity": {score}}}\n' for text, score in texts]
    (tmp_path / "t.jsonl").write_text("".join(lines))
    (tmp_path / "none.jsonl").write_text("".join(line for line in lines if "N" in line or "null" in line))
    words = ("calibrate", "--scorer", "profanity", "--out", tmp_path / "c", "--json", "--items")

    summary = strict(typed(*words, tmp_path / "t.jsonl")[1])["summary"]
    assert (summary["compared"], summary["without_reference"]) == (4, 2)
    words = ("calibrate", "--scorer", "profanity", "--out", tmp_path / "n", "--items", tmp_path / "none.jsonl")
    assert "no text with a score" in refused(typed(*words))


def test_an_export_does_not_write_over_a_file(tmp_path, typed):
    (tmp_path / "mine").write_text("mine")

    assert "mine" in refused(typed("export", "lm-eval", "--out", tmp_path / "mine"))
    assert (tmp_path / "mine").read_text() == "mine"
