import json

import pytest
import typer
from typer.testing import CliRunner

from preftrace import artifacts
from preftrace.cli.compare import compare
from preftrace.errors import DataError


@pytest.fixture
def run(tmp_path):
    """RUN/evaluate/{base,dpo}/privacy with eight items."""
    import pyarrow as pa

    for stage, shift in (("base", 0.0), ("dpo", 0.1)):
        trust = [0.1 * k + shift * (k % 3) for k in range(8)]
        columns = {
            "item_id": [f"i{k}" for k in range(8)],
            "cluster": [f"c{k}" for k in range(8)],
            "prompt": ["q"] * 8,
            "trust": trust,
        }

        def make(work, columns=columns):
            artifacts.write_table(work / "items.parquet", pa.table(columns))
            return {"metrics": {}, "scorer": None}

        spec = artifacts.StageSpec("evaluate", f"evaluate/{stage}/privacy", 1, {"stage": stage}, {})
        artifacts.run_stage(tmp_path / "evaluate" / stage / "privacy", spec, make)
    return tmp_path


def invoke(*arguments):
    app = typer.Typer()
    app.command()(compare)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_table_names_stages_and_verdict(run):
    result = invoke(run / "evaluate" / "base", run / "evaluate" / "dpo", "--resamples", "200")
    assert result.exit_code == 0, result.output
    assert "base -> dpo" in result.stdout
    assert "privacy" in result.stdout


def test_json_for_one_vertical_and_kept_folder(run, tmp_path):
    a, b = (run / "evaluate" / s / "privacy" for s in ("base", "dpo"))
    result = invoke(a, b, "--json", "--out", tmp_path / "kept", "--resamples", "200")
    (row,) = json.loads(result.stdout)
    assert (row["a"], row["b"], row["vertical"], row["n_items"]) == ("base", "dpo", "privacy", 8)
    assert row["difference"] == pytest.approx(0.0875)
    assert artifacts.read_record(tmp_path / "kept").kind == "compare"


def test_a_folder_without_evaluations_is_a_user_error(run):
    result = invoke(run / "evaluate" / "base", run / "nowhere")
    assert isinstance(result.exception, DataError)
