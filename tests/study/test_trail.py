"""A study that asks for influence along a training is told before anything runs what would be missing."""

from __future__ import annotations

import pytest

from preftrace.errors import ConfigError
from preftrace.study.reading import read_study

STUDY = """\
name: along
stages:
  sft: {keep_checkpoints: 2}
  reward: {}
  ppo: {}
  dpo: {}
verticals:
  ethics:
attribute: {methods: [identity, ensemble]}
"""
TOLD = "keep_checkpoints: the method 'ensemble' needs checkpoints: set it, to 4 for example"


@pytest.fixture
def problems(tmp_path):
    def read(text):
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            read_study(path)
        except ConfigError as error:
            return list(error.problems)
        return []

    return read


def test_every_stage_that_keeps_nothing_is_named_with_its_line(problems):
    """Influence on PPO is that of the reward stage's pairs, so that it is the reward stage that must keep some."""
    assert problems(STUDY) == [f"line 4: stages.reward.{TOLD}", f"line 6: stages.dpo.{TOLD}"]


def test_only_the_attributed_stages_need_to_keep_any(problems):
    assert problems(STUDY.replace("ensemble]", "ensemble], stages: [sft]")) == []
    assert problems(STUDY.replace("ensemble]", "ensemble], stages: [ppo]")) == [f"line 4: stages.reward.{TOLD}"]
    assert problems(STUDY.replace(", ensemble", "")) == []


def test_whole_models_are_not_kept(problems):
    text = STUDY.replace("attribute: {methods: [identity, ensemble]}", "attribute: null\nadapter: {method: full}")
    text = text.replace("  ppo: {}\n", "")
    found = problems(text)
    assert found == ["line 3: stages.sft.keep_checkpoints: whole models are not kept: it needs adapter.method lora"]


def test_it_is_a_setting_of_stages_that_train_on_pairs_only(problems):
    found = problems(STUDY.replace("ppo: {}", "ppo: {keep_checkpoints: 2}"))
    assert len(found) == 1 and found[0].startswith("line 5: stages.ppo.keep_checkpoints: unknown key")
