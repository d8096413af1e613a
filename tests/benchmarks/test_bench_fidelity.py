"""benchmarks/fidelity.py: its data are what it says, and it measures every method and baseline."""

from __future__ import annotations

import json

import pytest

from preftrace.registry import BASELINES, METHODS

SCRIPT = "fidelity"


def words_of(script, rule, side):
    return set(script.RULES[rule][side].split())


def test_pairs_keep_their_rule_but_for_the_reversed_ones(script):
    found = script.pairs(400, 0.3, seed=1)
    for row in found:
        rule = next(r for r in script.RULES if row["prompt"].split()[4] in words_of(script, r, 0))
        good, bad = (words_of(script, rule, side) for side in (1, 2))
        better, worse = (good, bad) if row["planted"] is None else (bad, good)
        assert len(set(row["chosen"].split()) & better) == 2 and len(set(row["rejected"].split()) & worse) == 2
        assert row["planted"] in (None, rule)
    share = sum(row["planted"] is not None for row in found) / 400
    assert 0.2 < share < 0.4  # four standard deviations are 0.09
    assert found == script.pairs(400, 0.3, seed=1) != script.pairs(400, 0.3, seed=2)


def test_items_are_about_things_that_no_pair_is_about(script):
    asked = {row["prompt"].split()[4] for row in script.pairs(2000, 0.3, seed=0)}
    for rule in script.RULES:
        good, bad = (words_of(script, rule, side) for side in (1, 2))
        for item in script.items(rule, 0):
            assert item["question"].split()[3] not in asked
            for text, label in item["mc2_targets"].items():
                assert len(set(text.split()) & (good if label else bad)) == 2


def test_held_words_are_in_no_pair_and_in_every_answer_to_a_question(script):
    said = {word for row in script.pairs(400, 0.3, 0, held=3) for word in (row["chosen"] + row["rejected"]).split()}
    for rule in script.RULES:
        held = {word for side in (1, 2) for word in script.RULES[rule][side].split()[-3:]}
        assert not held & said
        for item in script.items(rule, 0, held=3):
            assert all(len(set(text.split()) & held) == 2 for text in item["mc2_targets"])


@pytest.mark.slow
def test_it_prints_a_table_and_writes_its_numbers(script, tmp_path, capsys):
    words = ["--subsets", "3", "--pairs", "40", "--pretrain-steps", "5", "--losses", "dpo", "--workers", "1"]
    assert script.main([*words, "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["losses"]["dpo"]
    assert {row["method"] for row in found["lds"]} == {*METHODS.names(), *BASELINES.names()}
    assert {row["vertical"] for row in found["lds"]} == {*script.RULES, "mean"}
    assert found["trained_again"] == "dpo" and "dpo: LDS over 3 subsets" in capsys.readouterr().out
