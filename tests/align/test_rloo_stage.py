"""The rloo stage on a tiny model: it draws from our tokens, learns a rule, and a kill changes nothing."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from tests.conftest import build_model, build_tokenizer

from preftrace import align, artifacts, models, rewards
from preftrace.align import _rl_run, _rloo_run, ppo, rloo
from preftrace.config import AdapterConfig
from preftrace.errors import ConfigError, UserError
from preftrace.models.prompts import Encoded
from preftrace.types import Checkpoint, Message, Pair

RULE = """
def vowels(texts, answers):
    return [float(any(c in "aeiou" for c in answer)) for answer in answers]

def broken(texts):
    return [float("nan") for _ in texts]

def short(texts):
    return [0.0]
"""
SMALL = {"rollouts": 2, "num_generations": 4, "max_new_tokens": 6, "epochs": 1, "batch_size": 8}


@pytest.fixture
def rule(tmp_path):
    (tmp_path / "rules.py").write_text(RULE)
    return f"python:{tmp_path / 'rules.py'}:vowels"


@pytest.fixture
def generated(monkeypatch):
    """Every batch that TRL generated from and scored: its padded tensors, as the loss gets them."""
    seen: list[dict[str, torch.Tensor]] = []
    plain = _rloo_run.RLOOTrainer._generate_and_score_completions

    def watch(self, inputs):
        seen.append(plain(self, inputs))
        return seen[-1]

    monkeypatch.setattr(_rloo_run.RLOOTrainer, "_generate_and_score_completions", watch)
    return seen


def rows_of(batch) -> list[Encoded]:
    """The prompts and answers of a batch, without padding."""

    def cut(name):
        ids, masks = batch[f"{name}_ids"].tolist(), batch[f"{name}_mask"].bool().tolist()
        return [tuple(i for i, m in zip(row, mask, strict=True) if m) for row, mask in zip(ids, masks, strict=True)]

    return [Encoded(p, a, False) for p, a in zip(cut("prompt"), cut("completion"), strict=True)]


def test_it_logs_every_step_under_the_names_of_ppo_and_leaves_a_policy_and_answers(stage, toy, rule):
    record = stage("rloo", toy, reward=rule, num_iterations=2, **SMALL)
    curves = artifacts.read_table(record.folder / "curves.parquet").to_pydict()
    other = stage("ppo", toy, reward=rule, rollouts=4, max_new_tokens=6)
    named = set(artifacts.read_table(other.folder / "curves.parquet").column_names)
    assert set(curves) <= named and {"kl", "ratio", "clip_fraction", "entropy", "ended", "answer_tokens"} < set(curves)
    assert curves["step"] == [1, 2, 3, 4, 5, 6] and record.summary["steps"] == 6
    assert curves["epoch"][-1] == pytest.approx(12 / 11)
    assert curves["kl"][0] == pytest.approx(0, abs=1e-4)  # the adapter starts as the reference
    rows = artifacts.read_table(record.folder / "answers.parquet").to_pylist()
    assert [row["step"] for row in rows] == [step for step in range(1, 7) for _ in range(2)]
    trained = models.load(models.read_checkpoint(record.folder))
    weights = {name: w for name, w in trained.model.named_parameters() if "lora_B" in name}
    assert any(w.any() for w in weights.values()) and not any(".ref." in name for name in weights)
    assert record.summary["holdout"]["n"] == 3 and len(record.summary["holdout"]["reward_change_interval"]) == 2
    assert record.summary["reward_scale"] == 1.0 and record.summary["kl_coef"] == 0.05


def test_prompts_and_their_order_are_those_of_ppo(stage, toy, rule, generated, monkeypatch):
    drawn = []
    plain = _rl_run.draw
    monkeypatch.setattr("preftrace.align._ppo_run.draw", lambda lm, p, *a: drawn.extend(p) or plain(lm, p, *a))
    stage("ppo", toy, reward=rule, rollouts=2, max_new_tokens=6)
    stage("rloo", toy, reward=rule, **SMALL)
    answered = [row.prompt_ids for batch in generated for row in rows_of(batch)]
    assert answered[::4] == [row.prompt_ids for _, row in drawn]
    assert all(answered[i] == answered[i - i % 4] for i in range(len(answered)))


@pytest.mark.parametrize("format", ["raw", "chat"])
def test_a_prompt_is_tokenised_once_with_one_start_token(write, tmp_path, rule, generated, format):
    """The tokenizer puts <eos> before every text, as a start token; the template is text that has none."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = build_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<eos> $A", special_tokens=[("<eos>", 256)])
    build_model().save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    talk = (Message("user", "May I?"), Message("assistant", "No."), Message("user", "Ah"))
    pairs = [
        Pair(id=f"p{i}", prompt=prompt, chosen="yes", rejected="no", source="toy", row=i)
        for i, prompt in enumerate(("Number 0: may I?", talk))
    ]
    config = rloo.Config(reward=rule, max_length=26, **{**SMALL, "epochs": 3})
    lora, start = AdapterConfig(r=2, alpha=4), Checkpoint(str(tmp_path / "start"))
    folder = write(tmp_path / "talk", pairs)
    align.run("rloo", config, start, folder, lora, tmp_path / "out", format=format, seed=0, inputs={})
    found = {tokenizer.decode(row.prompt_ids) for batch in generated for row in rows_of(batch)}
    whole = {
        "raw": ("<eos>Number 0: may I?", "<eos>Human: May I?\n\nAssistant: No.\n\nHuman: Ah\n\nAssistant:"),
        "chat": (
            "<user>Number 0: may I?<eos>\n<assistant>",
            "<user>May I?<eos>\n<assistant>No.<eos>\n<user>Ah<eos>\n<assistant>",
        ),
    }[format]
    room = [tokenizer(text, add_special_tokens=False)["input_ids"][-20:] for text in whole]
    assert found == {tokenizer.decode(ids) for ids in room}


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_log_probabilities_are_ours_whatever_the_positions(stage, toy, rule, tmp_path, generated, architecture):
    """GPT-2 has absolute positions: a row padded on the left must not be shifted by its padding."""
    if architecture == "gpt2":
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(0)
        sizes = {"vocab_size": 258, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
        ends = {"bos_token_id": None, "eos_token_id": 256, "pad_token_id": 257}
        model = GPT2LMHeadModel(GPT2Config(**sizes, **ends, initializer_range=0.3))
    else:
        model = build_model()
    model.save_pretrained(tmp_path / "start")
    build_tokenizer().save_pretrained(tmp_path / "start")
    start = Checkpoint(str(tmp_path / "start"))
    stage("rloo", toy, reward=rule, start=start, temperature=0.7, learning_rate=1e-12, **{**SMALL, "epochs": 0.5})
    padded = next(batch for batch in generated if not batch["prompt_mask"].all())
    ours = models.completion_logprobs(models.load(start), rows_of(padded), temperature=0.7)
    assert padded["old_logps"].numpy() == pytest.approx(ours, abs=1e-3)


def test_a_models_own_generation_settings_change_no_draw(stage, toy, rule, tmp_path, generated):
    for name, settings in (("plain", {}), ("own", {"repetition_penalty": 9.0, "min_p": 0.5, "suppress_tokens": [5]})):
        model = build_model()
        model.generation_config.update(**settings, do_sample=True)
        model.save_pretrained(tmp_path / name)
        build_tokenizer().save_pretrained(tmp_path / name)
        stage("rloo", toy, name=name, reward=rule, start=Checkpoint(str(tmp_path / name)), **{**SMALL, "epochs": 0.1})
    plain, own = (rows_of(batch) for batch in generated)
    assert own == plain


def test_advantages_are_leave_one_out_returns_of_the_reward(stage, toy, rule, generated):
    """First step: no KL yet, so an answer's return is its reward."""
    stage("rloo", toy, reward=rule, **SMALL)
    tokenizer = build_tokenizer()
    text = [tokenizer.decode(row.answer_ids, skip_special_tokens=True) for row in rows_of(generated[0])]
    score = torch.tensor([float(any(c in "aeiou" for c in t)) for t in text]).view(2, 4)
    assert 0 < score.sum() < 8
    others = (score.sum(1, keepdim=True) - score) / 3
    assert generated[0]["advantages"].tolist() == pytest.approx((score - others).flatten().tolist(), abs=1e-4)


def test_the_reward_is_told_which_answers_were_ended(stage, toy, rule, generated, monkeypatch):
    seen: list[rewards.Answer] = []

    def build(spec, format):
        return lambda answers: seen.extend(answers) or [float(len(a.text)) for a in answers]

    monkeypatch.setattr(rewards, "build", build)
    settings = {"eos_penalty": 30.0, "normalise_advantages": True, "learning_rate": 1e-12}  # no KL at this rate
    record = stage("rloo", toy, reward=rule, **{**SMALL, "max_new_tokens": 60, **settings})
    rows = [row for batch in generated for row in rows_of(batch)]
    seen = seen[: len(rows)]  # then come held-out prompts
    assert [a.ended for a in seen] == [row.answer_ids[-1] == 256 for row in rows]
    assert {a.ended for a in seen} == {True, False}
    assert not any("<eos>" in a.text for a in seen)
    curves = artifacts.read_table(record.folder / "curves.parquet").to_pydict()
    for at, batch in enumerate(generated):
        part = seen[8 * at : 8 * at + 8]
        assert curves["ended"][at] == pytest.approx(sum(a.ended for a in part) / 8)
        assert curves["reward"][at] == pytest.approx(sum(len(a.text) for a in part) / 8)
        assert curves["answer_tokens"][at] == pytest.approx(float(batch["completion_mask"].sum() / 8))
        held = torch.tensor([len(a.text) - 30.0 * (not a.ended) for a in part]).view(2, 4)
        gap = (held - (held.sum(1, keepdim=True) - held) / 3).flatten()
        assert batch["advantages"].tolist() == pytest.approx((gap / gap.std()).tolist(), abs=1e-3)


def test_the_kl_is_the_sum_over_an_answers_tokens(stage, toy, rule, generated, tiny):
    record = stage("rloo", toy, reward=rule, learning_rate=0.05, warmup=0.0, beta=0.0, **SMALL)
    curves = artifacts.read_table(record.folder / "curves.parquet").to_pydict()
    last = generated[-1]
    gap = last["old_logps"].numpy() - models.completion_logprobs(tiny, rows_of(last))
    assert curves["kl"][-1] == pytest.approx(gap.mean(), abs=1e-3) and abs(gap.mean()) > 0.05


@pytest.mark.parametrize("stopped", [3, None])
def test_a_crash_and_a_second_run_equal_one_run(stage, toy, rule, monkeypatch, stopped):
    """4 steps of 2 passes and 4 updates each, a save after every second step; then a crash in a step, or at the end."""
    passes = {"num_iterations": 2, "batch_size": 2, "gradient_accumulation": 2, "epochs": 0.75}
    settings = {**SMALL, **passes, "reward": rule, "save_steps": 2}
    whole = stage("rloo", toy, name="whole", **settings)
    seen: list[int] = []
    with monkeypatch.context() as patch:

        def crash(*args):
            seen.append(1)
            if len(seen) == stopped:
                raise KeyboardInterrupt
            return ""

        patch.setattr(*((rloo, "fault", crash) if stopped else (_rl_run, "write_answers", lambda *_: 1 / 0)))
        with pytest.raises((KeyboardInterrupt, ZeroDivisionError)):
            stage("rloo", toy, name="torn", **settings)
    torch.manual_seed(77)
    plain = rloo.fault
    monkeypatch.setattr(rloo, "fault", lambda *args: seen.append(2) or plain(*args))
    torn = stage("rloo", toy, name="torn", **settings)
    assert seen.count(2) == (2 if stopped else 0)
    assert torn.outputs == whole.outputs and torn.summary == whole.summary


def test_a_reward_model_of_a_stage_is_a_reward(stage, toy):
    trained = stage("reward", toy, name="judge")
    record = stage("rloo", toy, reward=f"stage:{trained.folder}", **SMALL)
    assert record.summary["steps"] == 6 and record.summary["reward"] == "stage:../judge"


def test_a_step_that_goes_wrong_names_the_knob_and_keeps_the_save(stage, toy, rule, tmp_path):
    with pytest.raises(UserError, match=r"nan: at step 1 its reward is nan; look at the reward"):
        stage("rloo", toy, name="nan", reward=rule.replace("vowels", "broken"), **SMALL)
    with pytest.raises(UserError, match="the reward gave 1 numbers for 8 answers"):
        stage("rloo", toy, name="few", reward=rule.replace("vowels", "short"), **SMALL)
    with pytest.raises(UserError, match="raise beta or lower learning_rate"):
        stage("rloo", toy, name="far", reward=rule, learning_rate=0.3, warmup=0.0, stop_kl=0.01, save_steps=1, **SMALL)
    assert list((tmp_path / "align").glob("far.partial/_checkpoints/checkpoint-*/complete.json"))


def test_bad_settings_are_named(stage, toy, rule):
    with pytest.raises(ValidationError, match=r"num_generations = 16 answers, which .* = 12 does not divide"):
        rloo.Config(batch_size=6, gradient_accumulation=2)
    with pytest.raises(ValidationError, match="num_generations"):
        rloo.Config(num_generations=1, rollouts=8)
    with pytest.raises(ConfigError, match="rloo needs lora"):
        stage("rloo", toy, name="full", method="full", reward=rule, **SMALL)
    with pytest.raises(ConfigError, match="max_length: must be above max_new_tokens"):
        stage("rloo", toy, name="room", reward=rule, **{**SMALL, "max_length": 8, "max_new_tokens": 8})
    with pytest.raises(ConfigError, match="neither a reward stage"):
        stage("rloo", toy, name="none", reward="nice", **SMALL)


def test_an_adapter_on_the_output_head_is_refused(tiny_folder, toy, rule, tmp_path):
    lora, start = AdapterConfig(r=2, targets=("q_proj", "lm_head")), Checkpoint(str(tiny_folder))
    with pytest.raises(ConfigError, match=r"adapter\.targets: rloo cannot train the output head"):
        align.run("rloo", rloo.Config(reward=rule), start, toy, lora, tmp_path / "out", format="raw", seed=0, inputs={})


def test_its_reward_is_set_like_that_of_ppo(tmp_path):
    for config in (ppo.Config(), rloo.Config()):
        assert config.needs() == ("sft", "reward") and "reward" not in config.identity()
        assert config.located({"reward": tmp_path}).reward == f"stage:{tmp_path}"
    assert rloo.Config(reward="python:a.py:f").needs() == ("sft",)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_it_learns_a_rule_while_it_stays_near_the_reference(stage, toy, rule, seed):
    """The rule is met by about one answer in seven at first. KL is in nats an answer of at most 8 tokens."""
    sizes = {"rollouts": 8, "num_generations": 4, "batch_size": 32, "num_iterations": 2, "max_new_tokens": 8}
    settings = {**sizes, "epochs": 140, "max_length": 64, "learning_rate": 5e-3, "beta": 0.01}
    record = stage("rloo", toy, reward=rule, seed=seed, **settings)
    curves = artifacts.read_table(record.folder / "curves.parquet").to_pydict()
    assert curves["reward"][0] < 0.4
    assert sum(curves["reward"][-10:]) / 10 > 0.9
    assert max(curves["kl"]) < 30
