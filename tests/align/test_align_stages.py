"""The stages as a user meets them: files, counts, determinism, the reference, full fine-tuning, settings, errors."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from preftrace import artifacts, models
from preftrace.align import dpo, sft
from preftrace.config import AdapterConfig
from preftrace.errors import ConfigError, DataError, UserError
from preftrace.preferences import load_pairs
from preftrace.registry import STAGES
from preftrace.types import Pair, text_id


def pair_of(prompt, chosen, rejected):
    pair = text_id(prompt, chosen, rejected)
    return Pair(id=pair, prompt=prompt, chosen=chosen, rejected=rejected, source="toy", row=0)


def test_the_registry_lists_the_stages():
    assert STAGES.names() == ["dpo", "ppo", "reward", "rloo", "sft"]


def test_importing_a_stage_imports_no_torch():
    code = (
        "import sys; from preftrace.registry import STAGES; [STAGES.load(name) for name in STAGES.names()]; "
        "print({'torch', 'trl', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("config", [sft.Config(), dpo.Config(**{"from": "base", "beta": 0.2})])
def test_settings_survive_json_and_every_one_is_described(config):
    assert type(config).model_validate(config.model_dump(mode="json")) == config
    assert type(config).model_validate(config.model_dump(mode="json", by_alias=True)) == config
    assert [name for name, field in type(config).model_fields.items() if not field.description] == []


def test_speed_knobs_are_no_part_of_the_identity():
    fast = dpo.Config(save_steps=7, report_to="wandb", gradient_checkpointing=True)
    assert fast.identity() == dpo.Config().identity()
    assert dpo.Config(bf16=True).identity() != dpo.Config().identity()


def test_a_tracker_that_is_not_installed_is_the_users_error(stage, toy):
    with pytest.raises(ConfigError, match="report_to: no package 'trackerino' here"):
        stage("sft", toy, report_to=("none", "trackerino"))


def test_unset_learning_rate_depends_on_what_is_trained():
    assert sft.Config().rate(AdapterConfig()) == 10 * sft.Config().rate(AdapterConfig(method="full"))
    assert sft.Config(learning_rate=1.0).rate(AdapterConfig()) == 1.0
    with pytest.raises(ValidationError, match="learning_rate"):
        sft.Config(learning_rate=0.0)


def test_a_finished_stage_holds_what_its_record_says_and_no_pickle(stage, toy):
    record = stage("dpo", toy, epochs=2)
    files = {p.relative_to(record.folder).as_posix() for p in record.folder.rglob("*") if p.is_file()}
    assert files == {
        "record.json",
        "checkpoint.json",
        "curves.parquet",
        "reference.parquet",
        "tokens.parquet",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    }
    assert not record.folder.with_name("dpo.partial").exists()
    curve = artifacts.read_table(record.folder / "curves.parquet").to_pydict()
    assert curve["step"] == list(range(1, 7)) and record.summary["steps"] == 6
    assert curve["epoch"][-1] == 2.0
    assert record.summary["first_loss"] == curve["loss"][0] and record.summary["last_loss"] == curve["loss"][-1]
    assert all(np.isfinite(curve["grad_norm"])) and max(curve["learning_rate"]) <= 2e-4
    tensors = artifacts.read_tensors(record.folder / "adapter" / "adapter_model.safetensors")
    assert record.summary["trainable_parameters"] == sum(t.size for t in tensors.values())


def test_ids_and_counts_are_kept_and_long_answers_are_counted(stage, write, tmp_path):
    """max_length 40, one token a byte, an answer has one space before it and one end token behind it.

    38 bytes leave no room for a prompt token (40 of 40), 37 leave room for one; the prompt of 60 is cut.
    """
    pairs = [
        pair_of("p" * 10, "yes", "no"),
        pair_of("q" * 60, "yes", "no"),
        pair_of("r", "y" * 38, "no"),
        pair_of("s", "yes", "n" * 38),
        pair_of("tt", "yes", "n" * 37),
    ]
    folder = write(tmp_path / "mixed", pairs, [pair_of("u", "y" * 90, "no")])
    both = stage("dpo", folder, max_length=40)
    table = artifacts.read_table(both.folder / "tokens.parquet").to_pydict()
    assert table["pair_id"] == [p.id for p in pairs]
    assert table["used"] == [True, True, False, False, True]
    assert table["reason"] == ["", "", "chosen answer too long", "rejected answer too long", ""]
    assert table["truncated"] == [False, True, False, False, True]
    assert table["prompt_tokens"] == [10, 35, 1, 1, 1]
    assert table["chosen_tokens"] == [5, 5, 40, 5, 5] and table["rejected_tokens"] == [4, 4, 4, 40, 39]
    assert both.summary["pairs_used"] == 3 and both.summary["truncated"] == 2
    assert both.summary["pairs_unused"] == {"chosen answer too long": 1, "rejected answer too long": 1}
    assert both.summary["holdout"] == {"n": 0, "unused": 1}
    only_chosen = stage("sft", folder, max_length=40)
    assert only_chosen.summary["pairs_unused"] == {"chosen answer too long": 1}
    assert artifacts.read_table(only_chosen.folder / "tokens.parquet").to_pydict()["prompt_tokens"][4] == 2


def test_both_answers_of_a_pair_follow_the_same_prompt(tiny):
    from preftrace.align._rows import encode_pair

    row = encode_pair(tiny.tokenizer, pair_of("abcdefghij" * 5, "yes", "a longer no"), "raw", 40)
    assert row.chosen.prompt_ids == row.rejected.prompt_ids
    assert len(row.rejected.prompt_ids) + len(row.rejected.answer_ids) == 40
    assert tiny.tokenizer.decode(row.chosen.prompt_ids).endswith("fghij")


def test_no_usable_pair_is_the_users_error(stage, write, tmp_path):
    with pytest.raises(DataError, match=r"chosen answer too long.*Raise max_length"):
        stage("sft", write(tmp_path / "long", [pair_of("p", "y" * 50, "n")]), max_length=40)


def test_max_length_beyond_the_model_is_the_users_error(stage, toy):
    with pytest.raises(ConfigError, match="max_length: 4096 is more than the 2048 positions"):
        stage("sft", toy, max_length=4096)


def test_equal_seeds_give_equal_bytes_and_other_seeds_do_not(stage, toy):
    first, again, other = (stage("sft", toy, name=n, seed=s) for n, s in (("a", 3), ("b", 3), ("c", 4)))
    assert first.outputs == again.outputs and first.summary == again.summary
    assert first.outputs["adapter/adapter_model.safetensors"] != other.outputs["adapter/adapter_model.safetensors"]


def test_a_finished_stage_is_not_trained_again(stage, toy, monkeypatch):
    first = stage("sft", toy)
    monkeypatch.setattr("preftrace.engines.local.run_group", None)
    assert stage("sft", toy, save_steps=9).created == first.created


def test_with_its_adapter_off_the_dpo_model_is_the_sft_model(stage, toy):
    trained = stage("sft", toy, learning_rate=1e-2, epochs=2)
    start = models.read_checkpoint(trained.folder)
    final = models.read_checkpoint(stage("dpo", toy, start=start, learning_rate=1e-2, epochs=2).folder)
    assert len(final.adapters) == 2
    lm, reference = models.load(final), models.load(start)
    rows = [models.encode(lm.tokenizer, p.prompt, p.chosen, "raw") for p in load_pairs(toy)]
    on = models.completion_logprobs(lm, rows)
    with lm.model.disable_adapter():
        off = models.completion_logprobs(lm, rows)
    expected = models.completion_logprobs(reference, rows)
    assert off == pytest.approx(expected, abs=1e-4)
    assert abs(on - off).min() > 1e-2
    base = models.completion_logprobs(models.load(replace(start, adapters=())), rows)
    assert abs(base - off).min() > 1e-2


def test_full_fine_tuning_makes_a_model_and_the_next_stage_starts_from_it(stage, toy):
    trained = stage("sft", toy, method="full", learning_rate=1e-3)
    start = models.read_checkpoint(trained.folder)
    assert start.adapters == () and start.model == str(trained.folder / "model")
    assert trained.summary["trainable_parameters"] == 34_000 + 1104
    assert trained.summary["holdout"]["loss"] < trained.summary["holdout"]["loss_before"]
    final = stage("dpo", toy, start=start, method="full", learning_rate=1e-3, epochs=3)
    curve = artifacts.read_table(final.folder / "curves.parquet").to_pydict()
    assert curve["loss"][0] == pytest.approx(np.log(2), abs=1e-5)
    assert final.summary["holdout"]["reward_margin"] > 0.5
    assert not any(p.suffix in {".bin", ".pt", ".pth", ".pkl"} for p in final.folder.rglob("*"))


def test_margins_rise_on_a_preference_that_can_be_learned(stage, toy):
    record = stage("dpo", toy, epochs=6, learning_rate=3e-3)
    margins = artifacts.read_table(record.folder / "curves.parquet").to_pydict()["reward_margin"]
    assert margins[0] == pytest.approx(0.0, abs=1e-4)
    assert np.mean(margins[-3:]) > 1.0
    assert record.summary["holdout"]["reward_accuracy"] == 1.0


def test_bf16_and_checkpointing_train(stage, toy):
    plain = stage("dpo", toy, name="plain", learning_rate=1e-3)
    frugal = stage("dpo", toy, name="frugal", learning_rate=1e-3, gradient_checkpointing=True)
    assert frugal.summary["last_loss"] == pytest.approx(plain.summary["last_loss"], rel=1e-5)
    half = stage("dpo", toy, name="half", learning_rate=1e-3, bf16=True)
    assert half.summary["last_loss"] == pytest.approx(plain.summary["last_loss"], rel=0.05)
    tensors = artifacts.read_tensors(half.folder / "adapter" / "adapter_model.safetensors")
    assert {t.dtype for t in tensors.values()} == {np.dtype("float32")}


def test_a_training_that_blows_up_stops_and_names_the_knob(stage, toy, tmp_path):
    with pytest.raises(
        UserError, match=r"sft: the (loss|grad norm) is (nan|inf) at step \d+\. Lower its learning_rate"
    ):
        stage("sft", toy, method="full", learning_rate=1e30, epochs=4, warmup=0.0)
    assert (tmp_path / "align" / "sft.partial" / "tokens.parquet").is_file()


def test_a_rising_loss_is_noticed_and_a_noisy_one_is_not(tmp_path):
    from preftrace.align._guard import Guard

    class Job:
        config, adapter, final, work = sft.Config(), AdapterConfig(), tmp_path / "sft", tmp_path

    steady = Guard(Job())
    for step in range(100):
        steady.check(step, {"loss": 0.5 + 2.0 * (step % 2), "grad_norm": 1.0})
    rising = Guard(Job())
    with pytest.raises(UserError, match=r"the loss rose from 0.7 to .* Lower its learning_rate \(now 0.0005\)"):
        for step in range(40):
            rising.check(step, {"loss": 0.7 if step < 16 else 9.0})
