"""The training section: calibration by hand, and what the page says of reward models and of stages that follow them."""

import math
import re

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from preftrace import artifacts
from preftrace.report import write
from preftrace.report.calibration import LEAST_PAIRS, MOST_BINS, calibration, wilson
from preftrace.report.sections import training
from preftrace.report.view import RunView

SURE, UNSURE = math.log(4), math.log(1.5)
"""Gaps whose win probabilities are 0.8 and 0.6."""


def pairs(gap, right, wrong):
    return [(gap, 0.0)] * right + [(0.0, gap)] * wrong


def test_calibration_by_hand():
    """8 pairs at 0.6, 5 of them right; 8 at 0.8, 7 right: the error is (8 x 0.025 + 8 x 0.075) / 16 = 0.05."""
    found = calibration(pairs(SURE, 7, 1) + pairs(UNSURE, 5, 3))
    assert [b.n for b in found.bins] == [8, 8]
    assert [b.expected for b in found.bins] == pytest.approx([0.6, 0.8])
    assert [b.share for b in found.bins] == [5 / 8, 7 / 8]
    assert found.error == pytest.approx(0.05)
    assert found.whole.n == 16 and found.whole.share == 0.75 and found.whole.expected == pytest.approx(0.7)
    nats = 7 * math.log(0.8) + math.log(0.2) + 5 * math.log(0.6) + 3 * math.log(0.4)
    assert found.log_loss == pytest.approx(-nats / 16)
    assert (found.bins[1].low, found.bins[1].high) == pytest.approx((0.529112, 0.977579), abs=1e-5)


@pytest.mark.parametrize(("right", "n"), [(0, 9), (3, 9), (9, 9), (50, 81)])
def test_intervals_are_wilsons(right, n):
    known = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((known.low, known.high), abs=1e-9)


def test_pairs_of_equal_confidence_share_a_bin_and_even_ones_are_half_right():
    found = calibration(pairs(0.0, 10, 0) + pairs(SURE, 14, 0))
    assert [(b.n, b.share) for b in found.bins] == [(10, 0.5), (14, 1.0)]
    assert found.bins[0].expected == 0.5
    assert len(calibration(pairs(SURE, 30, 10)).bins) == 1


def test_few_pairs_are_one_bin_and_missing_rewards_are_counted():
    rng = np.random.default_rng(0)
    found = calibration([*map(tuple, rng.normal(size=(15, 2)).tolist()), (math.nan, 0.0), (math.inf, 0.0)])
    assert len(found.bins) == 1 and found.whole.n == 15 and found.lost == 2
    assert calibration([(math.nan, 1.0)]) is None and calibration([]) is None
    assert calibration([(1000.0, -1000.0)]).log_loss == 0 and calibration([(-1000.0, 1000.0)]).log_loss == 2000


@pytest.mark.parametrize("n", [8, 16, 23, 40, 41, 200])
@pytest.mark.parametrize("kinds", [3, 10, 10_000])
def test_bins_hold_every_pair_once_and_never_too_few(n, kinds):
    """Gaps of `kinds` sizes: with few of them nearly every pair is tied with others."""
    gaps = np.random.default_rng([n, kinds]).integers(1, kinds + 1, n) / kinds
    found = calibration([(gap, 0.0) for gap in gaps.tolist()])
    assert sum(b.n for b in found.bins) == n and len(found.bins) <= MOST_BINS
    assert all(b.n >= LEAST_PAIRS for b in found.bins)
    expected = [b.expected for b in found.bins]
    assert expected == sorted(set(expected))
    if kinds == 10_000 and n >= 40:
        assert len(found.bins) == 5 and max(b.n for b in found.bins) - min(b.n for b in found.bins) <= 1


def make(run, name, kind, tables, summary):
    def work(folder):
        for file, rows in tables.items():
            artifacts.write_table(folder / f"{file}.parquet", pa.Table.from_pylist(rows))
        return summary

    artifacts.run_stage(run / name, artifacts.StageSpec(kind, name, 1, {}, {}), work)


def curve(step):
    names = ("loss", "reward", "kl", "entropy", "clip_fraction", "value_loss", "ratio", "answer_tokens", "ended")
    row = {name: 0.1 * step + place for place, name in enumerate(names)}
    return {"step": step, **row, "kl_coef": 0.05, "explained_variance": math.nan}


def write_rlhf(run, answer="Call them.", held=20, change=(0.25, [0.05, 0.45])):
    run.mkdir()
    stages = "stages:\n  sft: {}\n  ppo: {from: sft, reward: judge}\n  judge: {kind: reward, from: sft}\n"
    (run / "study.yaml").write_text(f"name: rlhf\n{stages}verticals: {{ethics: {{}}}}\nattribute: null\n")
    kept = [{"id": f"p{k}", "prompt": f"What about topic {k}? {answer}", "meta": "{}"} for k in range(4)]
    make(run, "pairs", "pairs", {"pairs": kept, "dropped": []}, {})
    trained = {"pairs_used": 4, "pairs_unused": {}, "truncated": 0, "steps": 7, "first_loss": 0.7, "last_loss": 0.5}
    trained |= {"trainable_parameters": 10, "loss": "some loss"}
    chosen = [SURE if k % 5 else k - SURE for k in range(held)]
    rows = [{"pair_id": f"p{k}", "chosen_reward": r, "rejected_reward": 0.1 * k} for k, r in enumerate(chosen)]
    accuracy = {"reward_accuracy": 0.8, "reward_accuracy_interval": [0.58, 0.92]}
    margin = {"reward_margin": 0.4, "reward_margin_interval": [-0.1, 0.9]}
    summary = {**trained, "holdout": {"n": held, "unused": 0, "loss": 0.5, **accuracy, **margin}}
    make(run, "align/judge", "reward", {"holdout": rows}, summary)
    answers = [
        {"step": s, "pair_id": f"p{k}", "answer": f"{answer} {s}.{k}", "reward": s / 10}
        for s in range(1, 8)
        for k in (0, 1)
    ]
    means = {"reward_before": 0.1, "reward": 0.1 + change[0], "reward_change": change[0]}
    result = {"n": 9, **means, "reward_change_interval": change[1]}
    tables = {"curves": [curve(step) for step in range(1, 8)], "answers": answers}
    make(run, "align/ppo", "ppo", tables, {**trained, "holdout": result})
    make(run, "compare", "compare", {}, {})
    return run


def words(run):
    html = write(run).read_text(encoding="utf-8")
    start = html.index('<section id="training"')
    section = html[start : html.index("</section>", start)]
    return section, " ".join(re.sub(r"<[^>]*>", " ", section).split())


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    return words(write_rlhf(tmp_path_factory.mktemp("runs") / "rlhf"))


def test_held_out_measures_are_said_with_their_intervals(shown):
    _, said = shown
    assert "Of 20 held-out pairs it gives the chosen answer the higher reward in 0.80" in said
    assert "(95% interval 0.58 to 0.92), above guessing." in said
    assert "The mean margin is 0.4 (95% interval \u22120.1 to 0.9)." in said
    assert "On 9 held-out prompts, 1 answer each, the mean reward was 0.1 before and 0.35 after" in said
    assert "the change is 0.25 (95% interval 0.05 to 0.45): it rose." in said


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ((-0.2, [-0.3, -0.1]), "(95% interval \u22120.3 to \u22120.1): it fell."),
        ((0.1, [-0.1, 0.3]), ": no change found."),
        ((0.1, None), "(no interval: too few): no change found."),
    ],
)
def test_a_change_that_is_not_told_apart_from_none_is_called_that(tmp_path, change, told):
    assert told in words(write_rlhf(tmp_path / "run", change=change))[1]


def test_what_was_logged_is_drawn_and_nothing_else(shown):
    """All explained variances are missing, and the KL coefficient never moved."""
    section, said = shown
    labels = re.findall(r'<svg role="img" aria-label="([^"]*)"', section)
    drawn = {label.partition(" over steps")[0] for label in labels if " over steps" in label}
    assert drawn == {
        "loss",
        "mean reward of a step&#39;s answers",
        "KL, nats an answer",
        "entropy, nats a token",
        "share of clipped tokens",
        "loss of the values",
        "highest ratio of a minibatch",
        "tokens an answer",
        "share of answers that ended",
    }
    assert "explained variance" not in said.lower()
    moved = [{"step": step, "kl_coef": 0.05 * step} for step in (1, 2)]
    assert [name for name, _ in training.panels(moved)] == ["KL coefficient"]


def test_calibration_is_drawn_and_said(shown):
    section, said = shown
    assert re.search(r'aria-label="Share of right pairs: 0\.\d\d of 10 pairs where 0\.\d\d is expected, ', section)
    assert "Expected calibration error 0." in said and ", over 2 bins. Log loss" in said
    assert "(guessing: 0.69)" in said


def test_with_few_held_out_pairs_no_chart_is_drawn_and_it_says_so(tmp_path):
    section, said = words(write_rlhf(tmp_path / "run", held=12))
    assert "Share of right pairs" not in section
    assert "There are too few pairs of different margins for a calibration chart. Log loss" in said


def test_answers_of_the_first_the_middle_and_the_last_step_are_shown_with_their_prompts(shown):
    _, said = shown
    assert re.findall(r"Step (\d)", said) == ["1", "1", "4", "4", "7", "7"]
    assert "Prompt What about topic 1? Call them. Answer Call them. 4.1" in said
    assert "Call them. 2.0" not in said


def test_hostile_answers_stay_text(tmp_path):
    section, said = words(write_rlhf(tmp_path / "run", "<script>alert(1)</script>\u202e{{ 7*7 }}"))
    assert "<script" not in section and "\u202e" not in section
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&lt;U+202E&gt;{{ 7*7 }} 4.1" in said


def test_a_reward_model_stands_behind_the_stage_that_it_starts_from(tmp_path):
    run = write_rlhf(tmp_path / "run")
    make(run, "align/sft", "sft", {}, {})
    folder = run / "compare" / "record.json"
    record = artifacts.read_json(folder)
    artifacts.write_json(folder, {**record, "config": {"stages": ["base", "sft", "ppo"]}})
    assert RunView(run).stages[-3:] == ["sft", "judge", "ppo"]


def test_a_stage_without_held_out_pairs_says_so(tmp_path):
    run = write_rlhf(tmp_path / "run", held=0)
    summary = RunView(run).record("align/ppo").summary
    make(run, "align/sft", "sft", {}, {**summary, "holdout": {"n": 0, "unused": 0}})
    assert "Nothing was held out (preferences.holdout)." in words(run)[1]
