"""benchmarks/generation.py on the tiny model: both sides draw the same number of tokens, and its numbers are theirs."""

from __future__ import annotations

import json

import pytest

SCRIPT = "generation"
SMALL = ("--count", "5", "--samples", "2", "--max-new-tokens", "6", "--batch-size", "3", "--rounds", "1")


def test_it_prints_a_table_and_writes_its_numbers(script, tiny_folder, tmp_path, capsys):
    words = ["--model", str(tiny_folder), *SMALL, "--json", str(tmp_path / "found.json")]
    assert script.main(words) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    speeds = found["tokens_per_second"]
    assert found["speedup"] == pytest.approx(speeds["ours"] / speeds["plain"])
    assert found["tokens"] == {"ours": 5 * 2 * 6, "plain": 5 * 2 * 6}, "end tokens are taken away for both"
    assert found["prompts"] == 5 and found["batches"] == 2 and found["settings"]["temperature"] == 0.7
    assert f"speedup {found['speedup']:.2f}" in capsys.readouterr().out
