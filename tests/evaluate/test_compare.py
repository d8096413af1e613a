import math
from dataclasses import replace

import numpy as np
import pytest

from preftrace import artifacts
from preftrace.errors import DataError
from preftrace.evaluate import compare, rates, statistics
from preftrace.evaluate.compare import CompareConfig

QUICK = CompareConfig(resamples=999)


def write_evaluation(folder, items, metrics=None, scorer=None):
    """A finished evaluation; items: id -> (cluster, prompt, trust, {metric: value})."""
    import pyarrow as pa

    metrics = metrics or {}

    def make(work):
        columns = {
            "item_id": list(items),
            "cluster": [i[0] for i in items.values()],
            "prompt": [i[1] for i in items.values()],
            "trust": pa.array([i[2] for i in items.values()], pa.float64()),
        }
        for name in metrics:
            columns[name] = pa.array([i[3].get(name) for i in items.values()], pa.float64())
        artifacts.write_table(work / "items.parquet", pa.table(columns))
        described = {name: {"better": better, "label": name} for name, better in metrics.items()}
        return {"metrics": described, "scorer": scorer}

    name = f"evaluate/{folder.parent.name}/{folder.name}"
    inputs = {"items": artifacts.hash_json([str(folder), repr(items)])}
    return artifacts.run_stage(folder, artifacts.StageSpec("evaluate", name, 1, {}, inputs), make)


def study(tmp_path, values, **kwargs):
    """stage -> vertical -> list of trust values, one item and cluster each."""
    found = {}
    for stage, verticals in values.items():
        found[stage] = {}
        for vertical, trust in verticals.items():
            folder = tmp_path / stage / vertical
            write_evaluation(folder, {f"i{k}": (f"c{k}", f"say {k}", t, {}) for k, t in enumerate(trust)}, **kwargs)
            found[stage][vertical] = folder
    return found


def noisy(seed, n=40, shift=0.0):
    rng = np.random.default_rng(seed)
    return list(np.clip(rng.uniform(0.3, 0.7, n) + shift, 0, 1))


def test_a_clear_change_is_found_in_the_direction_of_trust(tmp_path):
    found = study(tmp_path, {"base": {"privacy": noisy(0)}, "dpo": {"privacy": noisy(1, shift=-0.25)}})
    (row,) = compare.compare(found, QUICK)
    assert (row.a, row.b, row.measure, row.test) == ("base", "dpo", "trust", "bootstrap")
    assert row.difference == pytest.approx(row.mean_b - row.mean_a)
    assert row.low < row.difference < row.high < 0
    assert row.verdict == "worse"


def test_every_two_stages_in_order_and_holm_over_all_claims(tmp_path):
    verticals = {"ethics": 0, "privacy": 10}
    found = study(
        tmp_path,
        {
            stage: {v: noisy(seed + k, shift=0.04 * k) for v, seed in verticals.items()}
            for k, stage in enumerate(["base", "sft", "dpo"])
        },
    )
    rows = compare.compare(found, QUICK)
    assert [(r.vertical, r.a, r.b) for r in rows] == [
        (v, a, b) for v in ("ethics", "privacy") for a, b in (("base", "sft"), ("base", "dpo"), ("sft", "dpo"))
    ]
    np.testing.assert_allclose([r.p_adjusted for r in rows], statistics.holm(np.array([r.p for r in rows])))


def test_metrics_are_adjusted_within_their_vertical_and_judged_in_their_direction(tmp_path):
    rng = np.random.default_rng(0)
    a = {f"i{k}": (f"c{k}", "q", 0.5, {"leak": v, "ok": 1 - v}) for k, v in enumerate(rng.uniform(0, 0.4, 40))}
    b = {f"i{k}": (f"c{k}", "q", 0.5, {"leak": v, "ok": 1 - v}) for k, v in enumerate(rng.uniform(0.4, 0.8, 40))}
    for name, items in (("a", a), ("b", b)):
        write_evaluation(tmp_path / name / "privacy", items, {"leak": "lower", "ok": "higher"})
    rows = compare.compare({s: {"privacy": tmp_path / s / "privacy"} for s in "ab"}, QUICK)
    by_measure = {r.measure: r for r in rows}
    assert by_measure["trust"].verdict == "no change found"
    assert by_measure["leak"].difference > 0
    assert by_measure["leak"].verdict == "worse"
    assert by_measure["ok"].verdict == "worse"
    metrics = [by_measure["leak"], by_measure["ok"]]
    expected = statistics.benjamini_hochberg(np.array([r.p for r in metrics]))
    np.testing.assert_allclose([r.p_adjusted for r in metrics], expected)


def test_missing_items_are_counted_and_left_out(tmp_path):
    """i0 is NaN in b, i1 is only in a, i9 only in b, i2 lacks the metric on one side, i3 has it on neither."""
    a = {f"i{k}": (f"c{k}", "q", 0.1 * k, {"m": 0.1 * k if k != 3 else None}) for k in range(6)}
    b = {f"i{k}": (f"c{k}", "q", 0.1 * k + 0.1, {"m": 0.2 if k not in (2, 3) else None}) for k in range(6)}
    b["i0"] = ("c0", "q", math.nan, {"m": 0.2})
    b["i9"] = ("c9", "q", 1.0, {"m": 1.0})
    del b["i1"]
    for name, items in (("a", a), ("b", b)):
        write_evaluation(tmp_path / name / "v", items, {"m": "higher"})
    trust, m = compare.compare({s: {"v": tmp_path / s / "v"} for s in "ab"}, QUICK)
    assert (trust.n_items, trust.n_missing) == (4, 3)
    assert trust.mean_a == pytest.approx(0.35)
    assert trust.difference == pytest.approx(0.1)
    assert (m.n_items, m.n_missing) == (3, 3)


def test_binary_items_in_clusters_of_one_take_mcnemar(tmp_path):
    a = [0.0] * 20 + [1.0] * 20
    b = [1.0] * 9 + [0.0] * 11 + [1.0] * 19 + [0.0]
    (row,) = compare.compare(study(tmp_path, {"a": {"v": a}, "b": {"v": b}}), QUICK)
    assert row.test == "mcnemar"
    assert row.p == pytest.approx(rates.mcnemar(rates.Table(19, 9, 1, 11)).p)
    assert row.verdict == "better"


def test_binary_items_that_share_clusters_take_the_bootstrap(tmp_path):
    for name, trust in (("a", [0.0, 1.0] * 10), ("b", [1.0, 1.0, 0.0, 1.0] * 5)):
        items = {f"i{k}": (f"c{k // 2}", "q", t, {}) for k, t in enumerate(trust)}
        write_evaluation(tmp_path / name / "v", items)
    (row,) = compare.compare({s: {"v": tmp_path / s / "v"} for s in "ab"}, QUICK)
    assert (row.test, row.n_items, row.n_clusters) == ("bootstrap", 20, 10)


@pytest.mark.parametrize("value", [0.5, 1.0])
def test_no_difference_at_all_says_what_could_have_been_seen(tmp_path, value):
    """40 items, none changed: up to 1 - 0.025^(1/40) = 8.8% of them may change; 6 changes one way could be found."""
    (row,) = compare.compare(study(tmp_path, {"a": {"v": [value] * 40}, "b": {"v": [value] * 40}}), QUICK)
    assert (row.difference, row.p, row.verdict) == (0, 1, "no change found")
    assert row.high == -row.low == pytest.approx(1 - 0.025 ** (1 / 40))
    assert row.mde >= statistics.fewest_changes(40, 0.05, 0.8)
    assert row.mde < 0.3


def test_one_cluster_cannot_be_judged(tmp_path):
    for name, shift in (("a", 0.0), ("b", 0.4)):
        items = {f"i{k}": ("same", "q", 0.1 * k + shift, {}) for k in range(5)}
        write_evaluation(tmp_path / name / "v", items)
    (row,) = compare.compare({s: {"v": tmp_path / s / "v"} for s in "ab"}, QUICK)
    assert row.difference == pytest.approx(0.4)
    assert all(math.isnan(x) for x in (row.low, row.high, row.p, row.p_adjusted, row.mde))
    assert row.verdict == "no change found"


def test_the_effect_that_is_called_detectable_is_found_about_that_often(tmp_path):
    """MDE at 80% power for one claim at 0.05: a true difference of that size is found in 0.8 of 300 draws."""
    rng = np.random.default_rng(4)
    effect = statistics.minimum_detectable([statistics.Part(1 / math.sqrt(40), 39)], 0.05, 0.8)
    p = [
        statistics.cluster_bootstrap(statistics.Clusters(rng.normal(effect, 1, 40), np.ones(40)), rng, 299).p
        for _ in range(300)
    ]
    assert 0.72 <= np.mean(np.array(p) < 0.05) <= 0.88


def test_more_claims_need_a_larger_effect(tmp_path):
    values = {s: {"v": noisy(k), "w": noisy(k + 5)} for k, s in enumerate("ab")}
    found = study(tmp_path, values)
    alone = compare.compare({s: {"v": f["v"]} for s, f in found.items()}, QUICK)[0]
    together = compare.compare(found, QUICK)[0]
    assert replace(together, p_adjusted=0, mde=0) == replace(alone, p_adjusted=0, mde=0)
    assert together.mde > alone.mde


def test_no_common_item_is_an_error(tmp_path):
    write_evaluation(tmp_path / "a" / "v", {"x": ("c", "q", 0.5, {})})
    write_evaluation(tmp_path / "b" / "v", {"y": ("c", "q", 0.5, {})})
    with pytest.raises(DataError, match="no item in common"):
        compare.compare({s: {"v": tmp_path / s / "v"} for s in "ab"})


def test_no_common_vertical_is_an_error(tmp_path):
    found = study(tmp_path, {"a": {"v": [0.1]}, "b": {"w": [0.1]}})
    with pytest.raises(DataError, match="no vertical in common"):
        compare.compare(found)


def test_other_words_or_another_scorer_cannot_be_compared(tmp_path):
    write_evaluation(tmp_path / "a" / "v", {"x": ("c", "q", 0.5, {})})
    write_evaluation(tmp_path / "b" / "v", {"x": ("c", "Human: q", 0.5, {})})
    write_evaluation(tmp_path / "c" / "v", {"x": ("c", "q", 0.5, {})}, scorer={"name": "s", "revision": "2"})
    with pytest.raises(DataError, match="in different words"):
        compare.compare({s: {"v": tmp_path / s / "v"} for s in "ab"})
    with pytest.raises(DataError, match="same scorer"):
        compare.compare({s: {"v": tmp_path / s / "v"} for s in "ac"})


def test_stage_is_written_once_and_read_back(tmp_path):
    found = study(tmp_path, {"a": {"v": noisy(0)}, "b": {"v": noisy(0)[::-1]}, "c": {}})
    record = compare.compare_stage(found, tmp_path / "compare", QUICK)
    again = compare.compare_stage(found, tmp_path / "compare", QUICK)
    assert record == again
    rows = compare.load_comparisons(tmp_path / "compare")
    assert rows == compare.compare(found, QUICK)
    assert record.summary == {"claims": 1, "better": 0, "worse": 0, "unchanged": 1, "not_evaluated": ["c/v"]}
    assert list(compare.frame(rows)["vertical"]) == ["v"]
    other = compare.compare_stage(found, tmp_path / "compare", QUICK.model_copy(update={"seed": 1}))
    assert other.identity != record.identity


def test_folders_are_found_by_stage_or_by_vertical(tmp_path):
    found = study(tmp_path, {"base": {"ethics": [0.1], "privacy": [0.2]}})
    assert compare.find_evaluations(tmp_path / "base") == found["base"]
    assert compare.find_evaluations(tmp_path / "base" / "ethics") == {"ethics": found["base"]["ethics"]}
    with pytest.raises(DataError, match="no finished evaluation"):
        compare.find_evaluations(tmp_path / "nowhere")


def test_an_unfinished_evaluation_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no finished evaluation of v at a"):
        compare.compare({"a": {"v": tmp_path / "a" / "v"}})


def test_answers_drawn_in_another_way_cannot_be_compared(tmp_path):
    """Expected maximum toxicity rises with the number of samples by itself."""
    folders = {}
    for stage, samples in (("base", 3), ("dpo", 5)):
        out = tmp_path / stage / "toxicity"
        spec = artifacts.StageSpec("evaluate", "e", 1, {"vertical": "toxicity", "options": {"samples": samples}}, {})

        def make(work):
            import pyarrow as pa

            table = pa.table({"item_id": ["a", "b"], "cluster": ["a", "b"], "prompt": ["x", "y"], "trust": [0.1, 0.2]})
            artifacts.write_table(work / "items.parquet", table)
            return {"metrics": {}, "scorer": None}

        artifacts.run_stage(out, spec, make)
        folders[stage] = {"toxicity": out}
    with pytest.raises(DataError, match="samples 3 and 5"):
        compare.compare(folders)


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ({"vertical_version": 1}, {"vertical_version": 2}, "judged by different versions"),
        (
            {"vertical_version": 1},
            {"vertical_version": 1, "judged_by_versions": [1, 2]},
            "judged by different versions",
        ),
        ({"options": {"protocol": "paper"}}, {"options": {"protocol": "corrected"}}, "protocol paper and corrected"),
        ({"options": {"num_beams": 4}}, {"options": {"num_beams": 1}}, "num_beams 4 and 1"),
    ],
)
def test_evaluations_that_were_judged_otherwise_cannot_be_compared(tmp_path, one, other, message):
    found = study(tmp_path, {"a": {"v": [0.1, 0.4]}, "b": {"v": [0.2, 0.3]}})
    for stage, config in (("a", one), ("b", other)):
        record = artifacts.read_json(found[stage]["v"] / "record.json")
        artifacts.write_json(found[stage]["v"] / "record.json", {**record, "config": config})
    with pytest.raises(DataError, match=message):
        compare.compare(found)


def test_the_detectable_effect_of_crossed_items_has_the_degrees_of_freedom_of_the_interval(tmp_path):
    """6 rows move the items and 40 columns do not: 5 degrees of freedom and more, not always 5."""
    from preftrace.evaluate import crossed

    rng = np.random.default_rng(0)
    change = (rng.normal(0, 0.1, (6, 1)) + rng.normal(0, 0.3, (6, 40))).ravel()
    ways = [[f"r{i}" for i in range(6) for _ in range(40)], [f"c{j}" for _ in range(6) for j in range(40)]]
    found = {}
    for stage, values in (("a", np.zeros(240)), ("b", change)):
        folder = tmp_path / stage / "v"
        write_evaluation(folder, {f"i{k}": (ways[0][k], "say", float(v), {}) for k, v in enumerate(values)})
        table = artifacts.read_table(folder / "items.parquet")
        artifacts.write_table(folder / "items.parquet", table.append_column("crossed", [ways[1]]))
        found[stage] = {"v": folder}
    (row,) = compare.compare(found, QUICK)

    data = crossed.by_cell(change, *ways)
    part = statistics.Part(crossed.two_way_error(data), crossed.freedom(data))
    assert 5 < part.freedom < 44 and row.test == "two-way"
    assert row.mde == pytest.approx(statistics.minimum_detectable([part], 0.05, 0.8))
