import math

import numpy as np
import pytest
from scipy import stats

from preftrace import artifacts
from preftrace.errors import DataError
from preftrace.evaluate import compare
from preftrace.evaluate.compare import CompareConfig
from preftrace.evaluate.layout import Ways
from preftrace.evaluate.seeds import over_seeds


def items(n, seeds):
    return Ways([str(i) for i in range(n)] * seeds, [])


def draw(rng, seeds, n, between=0.05):
    shared = rng.normal(0, 0.2, n)
    return [0.1 + rng.normal(0, between) + shared + rng.normal(0, 0.2, n) for _ in range(seeds)]


def test_the_error_adds_seeds_and_items_by_hand():
    """Seeds (0.1, 0.3) and (0.5, 0.7) on two items: means 0.2 and 0.6, S^2 = 0.08, S^2 / 2 = 0.04.

    Residuals by item: -0.1 twice and +0.1 twice, as cluster sums -0.2 and 0.2 over 4: V = 2 * 0.08 / 16 = 0.01.
    Both have one degree of freedom, so that the t's add up as one: half = t[0.975; 1] sqrt(0.05).
    """
    found = over_seeds([np.array([0.1, 0.3]), np.array([0.5, 0.7])], items(2, 2))
    assert found.estimate.difference == pytest.approx(0.4)
    assert found.estimate.error == pytest.approx(math.sqrt(0.05))
    assert found.estimate.high - 0.4 == pytest.approx(stats.t.ppf(0.975, 1) * math.sqrt(0.05))
    assert found.estimate.p == pytest.approx(2 * stats.t.sf(0.4 / math.sqrt(0.05), 1))


def test_with_items_that_do_not_vary_it_is_the_paired_t_test():
    before, after = np.array([0.2, 0.5, 0.4, 0.3]), np.array([0.4, 0.55, 0.7, 0.35])
    changes = [np.full(30, b - a) for a, b in zip(before, after, strict=True)]
    found, expected = over_seeds(changes, items(30, 4)), stats.ttest_rel(after, before)
    assert found.estimate.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.estimate.low, found.estimate.high) == pytest.approx((interval.low, interval.high))


def test_seeds_count_alike_however_many_of_their_items_have_a_value():
    found = over_seeds([np.zeros(100), np.ones(4)], Ways([str(i) for i in range(104)], []))
    assert found.estimate.difference == 0.5


def test_one_cluster_of_items_cannot_be_judged_and_no_change_has_no_interval():
    alone = over_seeds([np.array([0.1]), np.array([0.2])], Ways(["a", "a"], []))
    assert math.isnan(alone.estimate.p) and math.isnan(alone.estimate.low)
    none = over_seeds([np.zeros(3), np.zeros(3)], items(3, 2))
    assert none.estimate.p == 1 and math.isnan(none.estimate.low)


@pytest.mark.parametrize(("seeds", "between"), [(2, 0.1), (3, 0.2), (5, 0.1)])
def test_the_interval_covers_the_methods_effect(seeds, between):
    """400 methods with a true effect of 0.1: the standard error of a coverage of 0.95 is 0.011."""
    rng = np.random.default_rng(seeds)
    found = [over_seeds(draw(rng, seeds, 40, between), items(40, seeds)).estimate for _ in range(400)]
    held = np.mean([one.low <= 0.1 <= one.high for one in found])
    assert held >= 0.93


def test_items_alone_would_promise_too_much():
    """The same draws, one seed taken for the method: its interval holds the truth far less often than it says."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        d = draw(rng, 1, 40, 0.1)[0]
        held += abs(d.mean() - 0.1) <= 2.0227 * d.std(ddof=1) / math.sqrt(40)
    assert held / 400 < 0.75


@pytest.fixture
def evaluated(tmp_path):
    """evaluated(run, stage, trust by item): a finished evaluation of the vertical v."""
    import pyarrow as pa

    def write(run, stage, trust, model=None):
        names = [f"i{k}" for k in range(len(trust))]
        columns = {"item_id": names, "cluster": names, "prompt": names, "trust": list(map(float, trust))}

        def make(work):
            artifacts.write_table(work / "items.parquet", pa.table(columns))
            return {"metrics": {}, "scorer": None}

        inputs = {"model": model or f"{run}-{stage}"}
        folder = tmp_path / run / stage / "v"
        artifacts.run_stage(folder, artifacts.StageSpec("evaluate", f"evaluate/{stage}/v", 1, {}, inputs), make)
        return {"v": folder}

    return write


def test_compare_takes_replicates_and_speaks_of_the_method(evaluated, tmp_path):
    rng = np.random.default_rng(2)
    runs = []
    for run in "xyz":
        before = rng.uniform(0.3, 0.5, 30)
        runs.append({"sft": evaluated(run, "sft", before), "dpo": evaluated(run, "dpo", before + rng.uniform(0, 0.3))})
    (row,) = compare.compare(runs, CompareConfig(resamples=200))
    singles = [compare.compare(run, CompareConfig(resamples=200))[0] for run in runs]
    assert (row.test, row.n_seeds, row.n_items) == ("seeds", 3, 30)
    assert row.difference == pytest.approx(np.mean([one.difference for one in singles]))
    assert row.seed_sd == pytest.approx(np.std([one.difference for one in singles], ddof=1))
    assert row.high - row.low > 2 * (singles[0].high - singles[0].low)
    assert all(one.n_seeds == 1 and one.seed_sd is None for one in singles)
    record = compare.compare_stage(runs, tmp_path / "out", CompareConfig(resamples=200))
    assert compare.load_comparisons(tmp_path / "out") == [row] and len(record.inputs) == 6


def test_the_same_checkpoints_twice_are_no_further_seed(evaluated):
    runs = [{s: evaluated(run, s, [0.1, 0.2, 0.3 + 0.1 * (s == "b")], model=s) for s in "ab"} for run in ("one", "two")]
    with pytest.raises(DataError, match="a seed counts once"):
        compare.compare(runs)
