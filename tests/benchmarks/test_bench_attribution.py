"""benchmarks/attribution.py on the tiny model: it runs, and both sides do the work that it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

SCRIPT = "attribution"


def run(script, tmp_path, *words):
    assert script.main([*words, "--json", str(tmp_path / "found.json")]) == 0
    return json.loads((tmp_path / "found.json").read_text())


def test_it_prints_a_table_and_writes_its_numbers(script, tiny_folder, tmp_path, capsys):
    words = ["--model", str(tiny_folder), "--count", "5", "--rounds", "1", "--parts", "gradients"]
    found = run(script, tmp_path, *words)
    seconds = found["seconds_of_all_rounds"]
    assert found["ratio_to_floor"] == pytest.approx(seconds["five"][0] / seconds["floor"][0])
    assert found["max_rel_err"] <= 1e-4 and found["pairs"] == 5 and found["bf16_spearman"] > 0
    assert found["tokens"]["pass"] < found["tokens"]["floor"]
    assert "ratio_to_floor" in capsys.readouterr().out


def test_the_loop_and_the_passes_give_the_same_scores(script, tiny_folder, tmp_path):
    found = run(script, tmp_path, "--model", str(tiny_folder), "--count", "6", "--parts", "scores")
    assert found["streaming_max_rel_err"] <= 1e-4 and found["store_spearman"] > 0.5
    assert found["speedup_store"] == pytest.approx(
        found["seconds"]["loop"] / (found["seconds"]["store built"] + found["seconds"]["store queried"])
    )


def test_growth_is_of_fresh_processes_and_of_the_same_pairs(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script._growth, "FEW", 20)
    monkeypatch.setattr(script._growth, "MANY", 40)
    monkeypatch.setattr(script._growth, "TOP", 5)
    found = run(script, tmp_path, "--parts", "growth")
    assert found["peak_rss_mib_store"]["20"] > 100 and abs(found["rss_growth_streaming"]) < 0.5
    assert found["int8_bytes_ratio"] <= 0.6 and 0 <= found["int8_top100_overlap"] <= 1


def test_the_floor_is_of_the_log_probabilities_that_the_pass_differentiates(script, tiny_folder):
    import argparse

    from preftrace import models

    ground = script.Ground(argparse.Namespace(model=str(tiny_folder), source="starter", pairs=None, count=4))
    rows = [side for row in ground.rows for side in row]
    np.testing.assert_allclose(
        ground.plain(rows).detach().numpy(), models.answer_logprobs(ground.lm, rows).detach().numpy(), rtol=1e-4
    )
    script.floor(ground, 2)
    assert ground.dots(64, 1).shape == (4, len(ground.queries), 2)
