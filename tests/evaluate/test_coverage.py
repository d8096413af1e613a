"""Do intervals and tests hold what they say? benchmarks/intervals.py simulates: a short and the full version."""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    spec = importlib.util.spec_from_file_location("benchmarks_intervals", FOLDER / "intervals.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_truth_of_a_simulated_study_is_its_mean(bench):
    """20,000 items in 20,000 clusters, whose mean has a standard error of about 0.002."""
    import numpy as np

    for binary in (False, True):
        found, means = bench.stages(bench.Design(binary, 20_000, size=1), (0.0, 0.5), np.random.default_rng(0))
        seen = [evaluation.items.column("trust").to_numpy().mean() for evaluation in found]
        assert seen == pytest.approx(means, abs=0.01) and means[1] - means[0] > 0.1


@pytest.mark.parametrize("case", [(True, 10, 0, 5), (True, 20, 0, 1), (True, 10, 10, 3)])
def test_about_95_of_100_intervals_hold_the_truth(bench, case):
    """120 studies: the standard error of a coverage of 0.95 is 0.02."""
    assert bench.coverage(bench.Design(*case), 120, 199) >= 0.88


def test_one_way_intervals_of_crossed_items_would_promise_too_much(bench, monkeypatch):
    """The same studies with the second clusters not told: far fewer than 95% hold the truth."""
    whole = bench.evaluation

    def one_way(design, items, trust, number):
        found = whole(design, items, trust, number)
        return found._replace(items=found.items.drop_columns(["crossed"]))

    monkeypatch.setattr(bench, "evaluation", one_way)
    design = bench.Design(False, 40, 10, size=1, moves=(0.1, 0.6))
    assert bench.coverage(design, 60, 199) < 0.75


def test_studies_without_a_change_seldom_find_one(bench):
    """20 studies of 6 claims, of which 1 is expected to find something at a rate of 5%."""
    designs = [bench.Design(False, 20), bench.Design(True, 10, 10, 1)]
    assert bench.false_positives(designs, 20, 199)[0] <= 0.25


def test_it_prints_a_table_and_writes_its_numbers(bench, tmp_path, capsys):
    import json

    bench.NULL[:] = bench.NULL[:1]
    words = ["--studies", "2", "--resamples", "100", "--only", "2", "--json", str(tmp_path / "found.json")]
    assert bench.main(words) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found["coverage"]) == 2 and found["coverage_least"] == min(found["coverage"].values())
    assert "after Holm" in capsys.readouterr().out


@pytest.mark.slow
def test_95_of_100_intervals_hold_the_truth_at_length(bench):
    """1,000 studies of each design: the standard error of a coverage of 0.95 is 0.007, and 40 designs are looked at."""
    held = {design.name: bench.coverage(design, 1000, 999) for design in [*bench.ONE_WAY, *bench.TWO_WAY]}
    odd = {name: share for name, share in held.items() if not 0.925 <= share <= 0.98}
    assert not odd and 0.93 <= sum(held.values()) / len(held) <= 0.97


@pytest.mark.slow
def test_studies_without_a_change_find_one_in_at_most_6_of_100(bench):
    """1,000 studies of 15 claims: the standard error of a rate of 0.05 is 0.007."""
    assert bench.false_positives(bench.NULL, 1000, 999)[0] <= 0.06
