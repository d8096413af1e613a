"""The report's section on `preftrace validate`: what it says, and when it is there."""

from __future__ import annotations

import re

import pytest
from tests.validated import NOISE, write_validation

from preftrace.report.sections import fidelity
from preftrace.report.view import RunView

VERTICALS = ("ethics", "privacy", "toxicity")
STUDY = "name: small\nstages:\n  sft: {}\n  reward: {from: sft}\n  ppo: {from: sft, reward: reward}\n"


@pytest.fixture
def section(tmp_path):
    """`section(stage, ...)`: the words of the section of a run with such a validation."""
    (tmp_path / "study.yaml").write_text(STUDY)

    def write(stage="sft", **options):
        write_validation(tmp_path, stage, VERTICALS, **options)
        view = RunView(tmp_path)
        view.stages = ["sft", "ppo"]
        return re.sub(r"\s+", " ", re.sub(r"<svg.*?</svg>|<[^>]*>", " ", fidelity.render(view), flags=re.S))

    return write


def test_a_run_without_validation_has_no_such_section(finished, tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    assert fidelity.render(RunView(tmp_path)) == ""
    assert fidelity.render(RunView(finished)) != ""


def test_it_says_who_is_ahead(section):
    words = section()
    assert "identity beats every baseline: against length, the best of them, the difference of LDS is +0." in words
    assert "52 models were trained again, 40 of them on random subsets, where the run trained on 22 pairs." in words


def test_it_says_so_when_influence_does_not_beat_the_baselines(section):
    words = section(noise={"identity": 3.0, "length": 0.2})
    assert (
        "No influence method beats the baselines: identity against length, the difference of LDS is \N{MINUS SIGN}0."
        in words
    )


def test_a_lead_that_is_not_clear_is_no_victory():
    lead = {"method": "a", "baseline": "b", "difference": 0.1, "low": -0.05, "high": 0.2}
    words = fidelity.contest({"contest": lead, "subsets": 9})
    assert "a is ahead of b, the best baseline, but not clearly" in words
    assert words.endswith("Influence is not shown to beat the baselines.")
    assert "held against no baseline" in fidelity.contest({"contest": None, "subsets": 9})
    assert fidelity.contest({"contest": None, "subsets": 0}) == ""


def test_the_table_is_best_first_with_intervals_and_the_mean_by_itself(tmp_path, section):
    section()
    rows = RunView(tmp_path).table("validate/sft/lds.parquet")
    found = fidelity.agreements(rows)
    assert [(row["vertical"], row["method"]) for row, _ in found[:3]] == [("mean", name) for name in NOISE]
    assert found[0][1] == "better than chance" and found[0][0]["low"] > 0
    assert {words for row, words in found if row["vertical"] == "ethics"} == {"cannot be told"}
    assert len(found) == len(rows) == len(NOISE) * (len(VERTICALS) + 1)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.1, 0.5, "better than chance"), (-0.1, 0.5, "not told apart from chance"), (-0.5, -0.1, "worse than chance")],
)
def test_chance_is_told_from_the_interval(low, high, words):
    assert fidelity.told({"lds": (low + high) / 2, "low": low, "high": high}) == words
    assert fidelity.told({"lds": float("nan"), "low": low, "high": high}) == "cannot be told"


def test_groups_left_out_are_held_against_random_ones(section):
    words = section()
    assert (
        "Of 3 groups of pairs left out, 1 moved the query as the scores say, and 1 the other way, beyond random"
        in words
    )
    assert "2 harmful datainf ethics 0.25 0.15 to 0.35 0.2 \N{MINUS SIGN}0.1 to 0.1 as the scores say" in words
    assert "no more than a random group would do" in words


def test_parts_that_were_not_asked_for_are_not_there(section):
    words = section(subsets=0, noise={"identity": 1.0})
    assert "on random subsets" not in words and "LDS over the verticals, best first" not in words
    assert "groups of pairs left out" in words and "Planted pairs found" in words
    words = section("ppo", removal=False, trained_again="reward")
    assert "through the reward model" in words and words.count("groups of pairs left out") == 1
