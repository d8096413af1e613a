import json

import pytest
import typer
from typer.testing import CliRunner

from preftrace.cli.evaluate import evaluate, stage_name
from preftrace.errors import ConfigError, DataError, ModelError


def invoke(*arguments):
    app = typer.Typer()
    app.command()(evaluate)
    return CliRunner().invoke(app, [str(a) for a in arguments])


SMALL = ("--limit", 3, "--set", "max_new_tokens=3")


def test_a_table_shows_trust_and_every_metric_with_its_interval(tiny_folder, tmp_path):
    result = invoke(tiny_folder, "--vertical", "privacy", "--vertical", "ethics", "--out", tmp_path, *SMALL)

    assert result.exit_code == 0, result.exception
    for shown in ("privacy: trust", "leak rate", "ethics: trust", "false-negative rate", "3", "unparsed"):
        assert shown in result.stdout
    assert (tmp_path / "tiny" / "privacy" / "record.json").is_file()
    assert (tmp_path / "tiny" / "ethics" / "record.json").is_file()


def test_json_holds_the_summaries_and_missing_as_null(tiny_folder, tmp_path):
    result = invoke(tiny_folder, "--vertical", "ethics", "--out", tmp_path, "--json", "--limit", 1, *SMALL[2:])

    (found,) = json.loads(result.stdout)
    assert found["name"] == "evaluate/tiny/ethics"
    assert set(found["summary"]["trust"]) == {"value", "low", "high", "n", "missing"}
    assert found["summary"]["trust"]["low"] is None and found["summary"]["trust"]["n"] == 1


def test_a_trained_stages_folder_is_evaluated_by_its_name(tiny_folder, tmp_path):
    from preftrace import models
    from preftrace.types import Checkpoint

    stage = tmp_path / "align" / "dpo"
    stage.mkdir(parents=True)
    models.write_checkpoint(stage, Checkpoint(str(tiny_folder)))

    result = invoke(stage, "--vertical", "truthfulness", "--out", tmp_path / "evaluate", "--limit", 2)

    assert result.exit_code == 0, result.exception
    assert (tmp_path / "evaluate" / "dpo" / "truthfulness" / "record.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--vertical", "charm"), ConfigError, "unknown vertical 'charm'; known: bbq, ethics"),
        (("--vertical", "ethics", "--path", "x.csv"), ConfigError, "name the source"),
        (("--source", "rtp", "--path", "x.jsonl"), ConfigError, "belong to one vertical"),
        (("--vertical", "ethics", "--format", "html"), ConfigError, "raw or chat"),
        (("--vertical", "ethics", "--set", "colour=1"), ConfigError, "ethics: colour"),
        (("--vertical", "ethics", "--set", "colour"), ConfigError, "key=value"),
        (("--vertical", "ethics", "--source", "ethics", "--path", "no.csv"), DataError, "no.csv: no such file"),
    ],
)
def test_bad_options_stop_before_anything_is_written(tiny_folder, tmp_path, arguments, error, message):
    result = invoke(tiny_folder, "--out", tmp_path / "out", *arguments)

    assert isinstance(result.exception, error) and message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_all_faults_of_all_verticals_are_told_together(tiny_folder):
    result = invoke(tiny_folder, "--vertical", "ethics", "--vertical", "privacy", "--set", "samples=0", "--format", "x")

    assert len(result.exception.problems) == 3


def test_a_model_that_is_not_there_is_told(tmp_path):
    result = invoke(tmp_path / "nowhere", "--vertical", "ethics", "--out", tmp_path / "out")

    assert isinstance(result.exception, ModelError)


@pytest.mark.parametrize(("model", "name"), [("starter", "starter"), ("a/b", "a--b"), ("a/b@v1", "a--b-v1")])
def test_results_go_by_the_models_name(model, name):
    assert stage_name(model) == name
