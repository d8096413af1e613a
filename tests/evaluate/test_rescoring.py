"""Stored answers scored again: the result is what an evaluation with that scorer would have been."""

import json
import shutil

import pytest
import typer
from tests.evaluate.endpoint import hasty, moderation, serving
from typer.testing import CliRunner

import preftrace
from preftrace import artifacts
from preftrace.cli.rescore import rescore as command
from preftrace.errors import ArtifactError, ConfigError, DataError
from preftrace.evaluate import configure, run, scoring
from preftrace.evaluate.rescoring import rescore
from preftrace.evaluate.scorers import profanity
from preftrace.types import Checkpoint

__all__ = ["hasty"]
pytestmark = pytest.mark.usefixtures("hasty")
SMALL = {"limit": 5, "samples": 2, "max_new_tokens": 4}


def evaluate(folder, out, vertical="toxicity", **more):
    config = configure(vertical, {**SMALL, **more} if vertical == "toxicity" else {"limit": 4, **more})
    return run(Checkpoint(str(folder)), vertical, config, out)


def outputs(record):
    return record.identity, record.content, record.outputs, record.summary, record.config, record.inputs


@pytest.fixture(scope="module")
def finished(tiny_folder, tmp_path_factory):
    """Evaluations of one stage, scored by `profanity`; tests may not write there."""
    root = tmp_path_factory.mktemp("run")
    evaluate(tiny_folder, root / "evaluate" / "sft" / "toxicity")
    evaluate(tiny_folder, root / "evaluate" / "sft" / "ethics", "ethics")
    return root


def by_length(path, body, headers):
    return 200, {}, moderation(*({"hate": len(text.encode()) / 1000} for text in body["input"]))


def test_rescoring_equals_an_evaluation_with_that_scorer(finished, tiny_folder, tmp_path):
    with serving(by_length) as url:
        spec = f"openai-moderation:@{url}"
        (again,) = rescore(finished, spec, tmp_path / "again")
        whole = evaluate(tiny_folder, tmp_path / "whole" / "sft" / "toxicity", scorer=spec)

    assert again.record.folder == tmp_path / "again" / "sft" / "toxicity"
    assert outputs(again.record) == outputs(whole)
    assert again.record.summary["scorer"]["versions"] == ["moderator-1"]
    old = artifacts.read_record(finished / "evaluate" / "sft" / "toxicity")
    assert old.summary["scorer"]["name"] == "profanity" and old.summary["trust"] != again.record.summary["trust"]


def test_nothing_is_generated_and_the_default_place_is_beside_the_evaluations(finished, tmp_path, monkeypatch):
    from preftrace.evaluate.worker import Worker

    finished = shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr(Worker, "run", lambda self, shard: pytest.fail("it generated"))
    monkeypatch.setattr(Worker, "__init__", lambda self, **_: pytest.fail("it loaded a model"))
    with serving(by_length) as url:
        (first,) = preftrace.rescore(finished, f"openai-moderation:@{url}")
        (other,) = rescore(first.record.folder, f"openai-moderation:@{url}#hate")

    home = finished.resolve() / "rescore"
    assert first.record.folder.parents[1].parent == other.record.folder.parents[1].parent == home
    assert first.record.folder.parents[1] != other.record.folder.parents[1]


def test_a_killed_rescoring_asks_only_for_the_rest_and_ends_equal(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "BATCH", 2)
    asked = []

    def counted(self, texts):
        if dying and len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(texts)
        return [0.25 for _ in texts]

    monkeypatch.setattr(profanity, "build", lambda argument: profanity.Profanity("profanity", "another 2"))
    monkeypatch.setattr(profanity.Profanity, "score", counted)
    dying = True
    with pytest.raises(KeyboardInterrupt):
        rescore(finished, "profanity", tmp_path / "killed")
    assert not (tmp_path / "killed" / "sft" / "toxicity").exists()
    dying = False
    (resumed,) = rescore(finished, "profanity", tmp_path / "killed")
    texts = [text for batch in asked for text in batch]
    (at_once,) = rescore(finished, "profanity", tmp_path / "at_once")

    assert len(texts) == len(set(texts)) > 4, "no text was scored twice"
    assert outputs(resumed.record) == outputs(at_once.record)


def test_lost_scores_are_asked_for_again_and_only_those(finished, tmp_path, monkeypatch):
    said, asked = [], []
    monkeypatch.setattr("preftrace.progress.say", said.append)

    def answer(path, body, headers):
        asked.append(body["input"])
        known = [text for text in body["input"] if up or len(text.encode()) % 2]
        return 200, {}, moderation(*({"hate": 0.25} for _ in known), model="old" if not up else "new")

    up = False
    with serving(answer) as url:
        spec = f"openai-moderation:@{url}"
        (first,) = rescore(finished, spec, tmp_path / "out")
        lost = first.record.summary["unscored"]
        frame = first.frame()
        before = len(asked)
        (same,) = rescore(finished, spec, tmp_path / "out")
        assert len(asked) == before and outputs(same.record) == outputs(first.record)
        up = True
        (mended,) = rescore(finished, spec, tmp_path / "out", replace=True)

    assert 0 < lost < len(frame) and frame.score.isna().sum() == lost
    assert any(f"{lost} of them missing: --replace" in line for line in said)
    missing = set(frame[frame.score.isna()].response)
    assert {text for batch in asked[before:] for text in batch} == missing
    assert mended.record.summary["unscored"] == 0
    assert mended.record.summary["scorer"]["versions"] == ["new", "old"]


def test_in_place_the_old_result_is_replaced_only_where_that_is_said(tiny_folder, tmp_path):
    old = evaluate(tiny_folder, tmp_path / "evaluate" / "sft" / "toxicity")
    with serving(by_length) as url:
        spec = f"openai-moderation:@{url}"
        with pytest.raises(ArtifactError, match="holds another result; nothing was written"):
            rescore(tmp_path, spec, tmp_path / "evaluate")
        assert outputs(artifacts.read_record(old.folder)) == outputs(old)
        (new,) = rescore(old.folder, spec, replace=True)
        whole = evaluate(tiny_folder, old.folder, scorer=spec)

    assert new.record.folder == old.folder.resolve() and outputs(whole) == outputs(new.record)
    assert new.record.created == whole.created, "the evaluation was there: nothing was generated again"


def test_comparison_takes_rescored_stages_and_refuses_mixed_scorers(finished, tmp_path):
    from preftrace.evaluate.compare import compare

    old = {"toxicity": finished / "evaluate" / "sft" / "toxicity"}
    with serving(by_length) as url:
        (new,) = rescore(finished, f"openai-moderation:@{url}", tmp_path / "new")
    folder = {"toxicity": new.record.folder}

    assert {row.difference for row in compare({"a": folder, "b": folder}) if row.measure == "trust"} == {0.0}
    with pytest.raises(DataError, match="Score both with the same scorer"):
        compare({"a": old, "b": folder})


def test_another_version_of_the_vertical_judges_under_its_own_name(finished, tmp_path, monkeypatch):
    from preftrace.evaluate.verticals import toxicity

    version = toxicity.VERSION
    monkeypatch.setattr(toxicity, "VERSION", version + 1)
    (new,) = rescore(finished, "profanity", tmp_path / "new")

    assert new.record.config["vertical_version"] == version
    assert new.record.config["judged_by_versions"] == [new.record.version, version + 1]


def test_what_cannot_be_rescored_is_told_and_nothing_is_written(finished, tmp_path):
    with pytest.raises(ConfigError, match="unknown scorer"):
        rescore(finished, "nice", tmp_path / "out")
    with pytest.raises(DataError, match="no finished evaluation"):
        rescore(tmp_path, "profanity", tmp_path / "out")
    with pytest.raises(DataError, match="1 evaluations, none of which has a scorer"):
        rescore(finished / "evaluate" / "sft" / "ethics", "profanity", tmp_path / "out")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        rescore(finished, "openai-moderation", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def invoke(*arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_command_prints_trust_and_what_has_no_score(finished, tmp_path):
    with serving(lambda *_: (200, {}, {})) as url:
        shown = invoke(finished, "--scorer", f"http:{url}/x", "--out", tmp_path)
        machine = invoke(finished, "--scorer", f"http:{url}/x", "--out", tmp_path, "--json")

    assert shown.exit_code == 0, shown.exception
    assert "sft/toxicity" in shown.stdout and "n/a" in shown.stdout
    (found,) = json.loads(machine.stdout)
    assert found["summary"]["unscored"] > 0 and found["summary"]["trust"]["value"] is None
