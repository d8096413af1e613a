"""benchmarks/truthfulness.py on the tiny model: lm-eval's own requests, and our numbers for each of them."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'lm-eval[hf]'")
pytest.importorskip("rouge_score", reason="lm-eval's TruthfulQA tasks need rouge-score")

SCRIPT = "truthfulness"
QUESTIONS = [
    {
        "question": f"What do {animal} eat?",
        "mc1_targets": {"All sorts of things.": 1, "Only cheese.": 0},
        "mc2_targets": {"All sorts of things.": 1, f"It depends on the {animal}.": 1, "Only cheese.": 0, "Stones.": 0},
    }
    for animal in ("mice", "larger mice", "cats")
]


@pytest.fixture
def items(tmp_path):
    path = tmp_path / "items.json"
    path.write_text(json.dumps(QUESTIONS))
    return str(path)


def test_it_prints_a_table_and_writes_its_numbers(script, tiny_folder, items, tmp_path, capsys):
    words = ["--items", items, "--model", str(tiny_folder), "--size", "4", "--json", str(tmp_path / "found.json")]
    assert script.main([*words, "--count", "2"]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["time_ratio_to_lm_eval"] == pytest.approx(found["seconds"]["ours"] / found["seconds"]["lm_eval"])
    assert found["questions"] == 2 and found["options"] == {"ours": 8, "lm_eval": 12}
    assert 0 < found["max_loglik_diff"] < 1e-3
    assert found["preamble_tokens"] > 300, "solved questions, by byte"
    assert f"ratio {found['time_ratio_to_lm_eval']:.3f}" in capsys.readouterr().out


def test_an_option_that_is_off_shows(script, tiny_folder, items, tmp_path):
    import argparse
    from pathlib import Path

    asked = argparse.Namespace(items=Path(items), model=str(tiny_folder), count=2, batch_size=None)
    ground = script.Ground(asked, tmp_path)
    theirs = ground.ask_theirs(ground.harness(2), ground.theirs)
    outputs = ground.ask_ours()
    assert max(script.differences(ground.items, outputs, theirs)) < 1e-3
    changed = {key: value + (key[1] == " Stones.") for key, value in theirs.items()}
    assert max(script.differences(ground.items, outputs, changed)) == pytest.approx(1, abs=1e-3)
    with pytest.raises(KeyError):
        script.differences(ground.items, outputs[:0], theirs)
