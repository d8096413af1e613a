"""benchmarks/ppo.py on the tiny model: it runs, and its numbers are of what it says."""

from __future__ import annotations

import json

import pytest

SCRIPT = "ppo"
SMALL = ("--rollouts", "3", "--max-new-tokens", "4", "--batch-size", "2", "--rounds", "1")


def test_it_prints_a_table_and_writes_its_numbers(script, tiny_folder, tmp_path, capsys, monkeypatch):
    def here(_path, words):
        """The memory of this process: a new one takes seconds to start."""
        script.main(words)
        return float(capsys.readouterr().out.split()[-1])

    monkeypatch.setattr(script, "number_of_a_process", here)
    assert script.main(["--model", str(tiny_folder), *SMALL, "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["ratio_to_floor"] == pytest.approx(found["seconds"]["step"] / found["seconds"]["floor"])
    assert set(found["seconds_by_part"]["step"]) == {"generate", "forward", "update", "rest"}
    assert all(seconds > 0 for seconds in found["seconds_by_part"]["step"].values())
    assert found["answers"] == 3 and found["settings"]["ppo_epochs"] == 2
    assert 100 < found["peak_rss_mib"] <= found["separate_value_peak_rss_mib"]
    assert f"all{found['seconds']['step']:15.2f}" in capsys.readouterr().out


@pytest.mark.slow
def test_the_memory_is_that_of_a_fresh_process(script, tiny_folder):
    """Linux's ru_maxrss would be that of the process that started it."""
    held = bytearray(2**30)
    found = script.number_of_a_process(script.__file__, ["--model", str(tiny_folder), *SMALL, "--memory", "separate"])
    assert script.peak_rss_mib() > len(held) / 2**20
    assert 100 < found < 1024


def test_the_floor_reads_the_log_probabilities_that_the_step_trains(script, tiny_folder, tmp_path):
    """Both sides' passes give the same numbers for the same answers, so that they do the same work."""
    from preftrace import models

    bench = script.Bench(script.settings(["--model", str(tiny_folder), *SMALL]), tmp_path)
    rows = bench.generate()
    assert [len(row) for row in rows] == sorted(len(prompt.prompt_ids) + 4 for _, prompt in bench.prompts)
    ours = bench.policy.tokens([models.Encoded(tuple(row[:-4]), tuple(row[-4:]), False) for row in rows], 4)
    assert bench.logps(rows).detach().numpy() == pytest.approx(ours.logps.detach().numpy(), abs=1e-5)
    seen = []
    for floor in (bench.floor, lambda sizes: bench.step()):
        before = [p.detach().clone() for p in bench.policy.adapter]
        floor({"forward": 2, "update": 2})
        seen.append(any(not (a == b).all() for a, b in zip(before, bench.policy.adapter, strict=True)))
    assert seen == [False, True], "the floor must leave the policy alone, the step must train it"
