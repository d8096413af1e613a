"""The ppo stage on a tiny model: it learns a rule, holds to the reference, and a kill changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from preftrace import artifacts, models, rewards
from preftrace.align import _ppo_run, ppo
from preftrace.align._ppo_policy import Policy
from preftrace.errors import ConfigError, UserError

RULE = """
def vowels(texts, answers):
    return [float(any(c in "aeiou" for c in answer)) for answer in answers]

def prompted(texts, answers):
    return [float(int(text.split("Number ")[1].split(":")[0]) % 2) for text in texts]

def broken(texts):
    return [float("nan") for _ in texts]
"""
SMALL = {"rollouts": 4, "max_new_tokens": 6, "epochs": 2, "batch_size": 2, "ppo_epochs": 2}


@pytest.fixture
def rule(tmp_path):
    (tmp_path / "rules.py").write_text(RULE)
    return f"python:{tmp_path / 'rules.py'}:vowels"


def test_it_logs_every_step_and_leaves_a_policy_a_value_head_and_answers(stage, toy, rule):
    record = stage("ppo", toy, reward=rule, **SMALL)
    curves = artifacts.read_table(record.folder / "curves.parquet").to_pydict()
    assert curves["step"] == list(range(1, 1 + record.summary["steps"])) and record.summary["steps"] == 6
    logged = ("reward", "kl", "entropy", "clip_fraction", "value_loss", "explained_variance", "ratio", "ended")
    assert set(logged) < set(curves)
    assert curves["kl"][0] == pytest.approx(0, abs=1e-5)  # the adapter starts as the reference
    rows = artifacts.read_table(record.folder / "answers.parquet").to_pylist()
    assert [row["step"] for row in rows] == [step for step in range(1, 7) for _ in range(2)]
    assert artifacts.read_tensors(record.folder / "value_head.safetensors")["weight"].any()
    assert models.load(models.read_checkpoint(record.folder)).model is not None
    assert record.summary["holdout"]["n"] == 3


def test_one_update_moves_a_value_by_no_more_than_its_learning_rate(stage, toy, rule, monkeypatch):
    """From a head of zeros Adam moves every weight by the rate; a value is a weighted mean of them, plus a bias."""
    seen, tokens = [], Policy.tokens

    def spy(self, *args, **kwargs):
        found = tokens(self, *args, **kwargs)
        seen.append(float(found.values.detach().abs().max()))
        return found

    monkeypatch.setattr(Policy, "tokens", spy)
    settings = {"rollouts": 5, "max_new_tokens": 4, "epochs": 1, "batch_size": 8, "ppo_epochs": 1}
    stage("ppo", toy, reward=rule.replace("vowels", "prompted"), value_learning_rate=0.05, **settings)
    first, second = seen[:3], seen[3:]  # of each step: the policy, the reference, the update
    assert first == [0, 0, 0] and 0.001 < second[0] <= 2 * 0.05


def test_the_held_out_change_is_of_prompts_each_with_several_answers(stage, toy, rule, monkeypatch):
    """By the reward's own calls: 3 prompts with 5 answers each before training and after it, means by prompt."""
    seen = []

    def spy(answers):
        scores = [float(sum(map(ord, answer.text)) % 7) for answer in answers]
        seen.extend(zip([str(answer.prompt) for answer in answers], scores, strict=True))
        return scores

    monkeypatch.setattr(rewards, "build", lambda spec, format: spy)
    holdout = stage("ppo", toy, reward=rule, rollouts=4, max_new_tokens=4, holdout_answers=5).summary["holdout"]
    last = seen[-30:]
    prompts = list(dict.fromkeys(prompt for prompt, _ in last))
    assert len(prompts) == holdout["n"] == 3 and holdout["answers"] == 5
    before, after = (
        np.array([np.mean([s for p, s in half if p == prompt]) for prompt in prompts])
        for half in (last[:15], last[15:])
    )
    assert holdout["reward_before"] == pytest.approx(before.mean()) and holdout["reward"] == pytest.approx(after.mean())
    gaps = after - before
    half = stats.t.ppf(0.975, 2) * gaps.std(ddof=1) / np.sqrt(3)
    assert holdout["reward_change_interval"] == pytest.approx([gaps.mean() - half, gaps.mean() + half])


def test_a_crash_and_a_second_run_equal_one_run(stage, toy, rule, monkeypatch):
    settings = {"reward": rule, "save_steps": 2, "kl_target": 0.5, **SMALL}
    whole = stage("ppo", toy, name="whole", **settings)
    step = _ppo_run._step

    def crash(job, policy, state, at, *rest):
        if at == 3:
            raise KeyboardInterrupt
        step(job, policy, state, at, *rest)

    monkeypatch.setattr(_ppo_run, "_step", crash)
    with pytest.raises(KeyboardInterrupt):
        stage("ppo", toy, name="torn", **settings)
    monkeypatch.undo()
    torn = stage("ppo", toy, name="torn", **settings)
    assert torn.outputs == whole.outputs and torn.summary == whole.summary


def test_a_reward_model_of_a_stage_is_a_reward(stage, toy):
    trained = stage("reward", toy, name="judge")
    record = stage("ppo", toy, reward=f"stage:{trained.folder}", **SMALL)
    assert record.summary["steps"] == 6


def test_a_step_that_goes_wrong_names_the_knob_and_keeps_the_save(stage, toy, rule, tmp_path):
    with pytest.raises(UserError, match=r"at step 1 its .* is nan; lower learning_rate or look at the reward"):
        stage("ppo", toy, name="nan", reward=rule.replace("vowels", "broken"), **SMALL)
    with pytest.raises(UserError, match="raise kl_coef or lower learning_rate"):
        stage("ppo", toy, name="far", reward=rule, learning_rate=1.0, warmup=0.0, stop_kl=0.01, save_steps=1, **SMALL)
    assert list((tmp_path / "align").glob("far.partial/_checkpoints/checkpoint-*/complete.json"))


def test_a_reward_that_is_not_there_is_the_users_error(stage, toy):
    for spec, told in (
        ("nice", "neither a reward stage"),
        ("python:no_such.py:f", "cannot find 'python:no_such.py:f'"),
    ):
        with pytest.raises(ConfigError, match=told):
            stage("ppo", toy, name="none", reward=spec, **SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_it_learns_a_rule_while_it_stays_near_the_reference(stage, toy, rule, seed):
    """The rule is met by about one answer in seven at first. KL is in nats an answer of at most 8 tokens."""
    settings = {"rollouts": 32, "batch_size": 32, "max_new_tokens": 8, "epochs": 700, "max_length": 64, "ppo_epochs": 4}
    record = stage(
        "ppo", toy, reward=rule, seed=seed, learning_rate=1e-2, value_learning_rate=0.3, kl_coef=0.01, **settings
    )
    curves = artifacts.read_table(record.folder / "curves.parquet").to_pydict()
    assert curves["reward"][0] < 0.4
    assert sum(curves["reward"][-10:]) / 10 > 0.9
    assert max(curves["kl"]) < 30
    assert record.seconds < 60


@pytest.mark.parametrize(
    ("scheduler", "last"), [("linear", 0.1), ("cosine", 0.024471742), ("constant_with_warmup", 1.0)]
)
def test_the_learning_rate_rises_and_then_goes_on_as_asked(scheduler, last):
    """20 steps, half of them warm-up: 1/11, 2/11, ... 10/11, then 1; the last step is 9 tenths of the way."""
    config = ppo.Config(scheduler=scheduler, warmup=0.5)
    assert [ppo.rate(config, step, 20) for step in (0, 9, 10, 19)] == pytest.approx([1 / 11, 10 / 11, 1.0, last])


def test_the_running_deviation_is_that_of_all_scores_so_far():
    scores = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moments, deviation = (0.0, 0.0, 0.0), 0.0
    for part in scores.split([1, 7, 12]):
        moments, deviation = ppo.running_deviation(moments, part)
    assert deviation == pytest.approx(float(scores.std())) and moments[1] == pytest.approx(float(scores.mean()))
    assert ppo.running_deviation((0.0, 0.0, 0.0), torch.ones(3))[1] == 1.0
