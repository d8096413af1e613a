"""benchmarks/attribution.py on the tiny model: it runs, and both sides do the work that it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

SCRIPT = "attribution"


def test_it_prints_a_table_and_writes_its_numbers(script, tiny_folder, tmp_path, capsys):
    words = ["--model", str(tiny_folder), "--count", "5", "--rounds", "1", "--json", str(tmp_path / "found.json")]
    assert script.main(words) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    seconds = found["seconds_of_all_rounds"]
    assert found["ratio_to_floor"] == pytest.approx(seconds["five"][0] / seconds["floor"][0])
    assert found["max_rel_err"] <= 1e-4 and found["pairs"] == 5
    assert found["tokens"]["pass"] < found["tokens"]["floor"]
    assert "ratio_to_floor" in capsys.readouterr().out


def test_the_floor_is_of_the_log_probabilities_that_the_pass_differentiates(script, tiny_folder):
    import argparse

    from preftrace import models

    bench = script.Bench(argparse.Namespace(model=str(tiny_folder), source="starter", pairs=None, count=4))
    rows = [side for row in bench.rows for side in row]
    np.testing.assert_allclose(
        bench.plain(rows).detach().numpy(), models.answer_logprobs(bench.lm, rows).detach().numpy(), rtol=1e-4
    )
    bench.floor(2)
    assert bench.dots(64, 1).shape == (4, len(bench.queries), 2)
