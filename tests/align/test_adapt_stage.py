"""`adapt`: the adapter stands for the tuned model as far as its rank goes; what it does not hold is said."""

import json
import sys

import pytest
import torch
from tests.align.conftest import toy_pair
from tests.conftest import build_model
from tests.models.test_difference import save, tune

from preftrace import api, artifacts, models, progress
from preftrace.align import _adapt
from preftrace.align._adapt import adapt
from preftrace.align._adapt_job import AdaptConfig
from preftrace.cli import main
from preftrace.errors import DataError, ModelError
from preftrace.models.lora import lora_layers
from preftrace.types import Checkpoint

PAIRS = [toy_pair(i) for i in range(6)]
IDS = torch.arange(40).reshape(2, 20)


def linear(name):
    return "_proj" in name


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


@pytest.fixture
def tuned(tmp_path):
    """The tiny model after a change of its linear weights alone."""
    return save(tune(build_model(), only=linear), tmp_path / "tuned")


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(progress, "say", lines.append)
    return lines


def test_at_full_rank_base_and_adapter_are_the_tuned_model(tiny_folder, tuned, tmp_path, said):
    record = adapt(str(tiny_folder), tuned, PAIRS, tmp_path / "out", AdaptConfig(rank=32))
    checkpoint = models.resolve_checkpoint(str(record.folder))
    assert checkpoint == Checkpoint(str(tiny_folder), (str(tmp_path / "out" / "adapter"),))
    adapted, wanted = models.load(checkpoint), models.load(Checkpoint(tuned))
    torch.testing.assert_close(logits(adapted.model), logits(wanted.model), rtol=0, atol=1e-5)
    assert {layer.scale for layer in lora_layers(adapted)} == {1.0} and len(lora_layers(adapted)) == 14
    merged = models.load(checkpoint, merge=True)
    torch.testing.assert_close(logits(merged.model), logits(wanted.model), rtol=0, atol=1e-5)
    check = record.summary["check"]
    assert check["answers"] == 12 and check["max_error"] < 1e-3 < check["mean_change"]
    assert record.summary["energy_kept"] == pytest.approx(1, abs=1e-5) and record.summary["lost_tensors"] == 0
    assert record.summary["warnings"] == [] and not said


def test_a_rank_too_low_is_warned_of_with_the_error_that_both_models_show(tiny_folder, tuned, tmp_path, said):
    record = adapt(str(tiny_folder), tuned, PAIRS, tmp_path / "out", AdaptConfig(rank=1))
    check = record.summary["check"]
    texts = [
        models.encode(models.load_tokenizer(tuned), pair.prompt, answer, "raw")
        for pair in PAIRS
        for answer in (pair.chosen, pair.rejected)
    ]
    found = [
        models.completion_logprobs(models.load(c), texts)
        for c in (models.resolve_checkpoint(str(record.folder)), Checkpoint(tuned), Checkpoint(str(tiny_folder)))
    ]
    assert check["mean_error"] == pytest.approx(abs(found[0] - found[1]).mean(), abs=1e-4)
    assert check["max_error"] == pytest.approx(abs(found[0] - found[1]).max(), abs=1e-4)
    assert check["mean_change"] == pytest.approx(abs(found[1] - found[2]).mean(), abs=1e-4)
    table = artifacts.read_table(record.folder / "check.parquet")
    assert table["tuned"].to_pylist() == pytest.approx(list(found[1]), abs=1e-4)
    (line,) = said
    assert line.startswith("warning: the adapter does not reproduce the tuned model")
    assert f"{check['mean_error']:.3g} nats on average, {check['max_error']:.3g} at most" in line
    adapt(str(tiny_folder), tuned, PAIRS, tmp_path / "out", AdaptConfig(rank=1))
    assert said == [line, line]


def test_what_no_adapter_holds_is_named_with_its_norm(tiny_folder, tmp_path, said):
    before = build_model().state_dict()
    model = tune(build_model(), only=lambda name: linear(name) or name in ("lm_head.weight", "model.norm.weight"))
    tuned = save(model, tmp_path / "tuned")
    record = adapt(str(tiny_folder), tuned, PAIRS, tmp_path / "out", AdaptConfig(rank=32))
    lost = artifacts.read_table(record.folder / "lost.parquet").to_pylist()
    assert [row["tensor"] for row in lost] == ["lm_head.weight", "model.norm.weight"]
    change = {name: float((tensor - before[name]).double().norm()) for name, tensor in model.state_dict().items()}
    assert [row["norm"] for row in lost] == pytest.approx([change[row["tensor"]] for row in lost], rel=1e-6)
    whole = sum(norm**2 for norm in change.values())
    kept = sum(norm**2 for name, norm in change.items() if linear(name))
    assert record.summary["kept_of_whole"] == pytest.approx(kept / whole, rel=1e-5)
    assert f"2 tensors that differ are in no adapter, with {1 - kept / whole:.1%} of the squared change" in said[0]
    assert "lm_head.weight" in said[0] and "does not reproduce" in said[1]


def test_a_matrix_that_did_not_change_counts_for_nothing(tiny_folder, tmp_path):
    tuned = save(tune(build_model(), only=lambda name: "layers.1" in name and linear(name)), tmp_path / "tuned")
    record = adapt(str(tiny_folder), tuned, PAIRS, tmp_path / "out", AdaptConfig(rank=2))
    rows = artifacts.read_table(record.folder / "matrices.parquet").to_pylist()
    still = [row for row in rows if "layers.0" in row["matrix"]]
    assert len(still) == record.summary["unchanged"] == 7
    assert all(row["norm"] == 0 and row["energy"] != row["energy"] for row in still)
    moved = [row for row in rows if "layers.1" in row["matrix"]]
    kept = sum(row["energy"] * row["norm"] ** 2 for row in moved) / sum(row["norm"] ** 2 for row in moved)
    assert 0 < kept < 1 and record.summary["energy_kept"] == pytest.approx(kept)
    assert record.summary["least_energy"]["energy"] == min(row["energy"] for row in moved)
    tensors = artifacts.read_tensors(record.folder / "adapter" / "adapter_model.safetensors")
    assert not any(tensor.any() for name, tensor in tensors.items() if "layers.0" in name)


def test_gpt2s_transposed_weights_and_its_biases(tmp_path, said):
    from transformers import GPT2Config, GPT2LMHeadModel

    def build():
        torch.manual_seed(0)
        size = {"vocab_size": 258, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
        return GPT2LMHeadModel(GPT2Config(**size, bos_token_id=256, eos_token_id=256)).eval()

    base = save(build(), tmp_path / "base")
    weights = tune(build(), only=lambda name: ".c_" in name and name.endswith("weight"))
    record = adapt(base, save(weights, tmp_path / "weights"), PAIRS, tmp_path / "a", AdaptConfig(rank=32))
    adapted = models.load(models.resolve_checkpoint(str(record.folder)))
    torch.testing.assert_close(logits(adapted.model), logits(weights), rtol=0, atol=1e-5)
    assert record.summary["matrices"] == 8 and not said
    biases = tune(build(), only=lambda name: ".c_" in name)
    record = adapt(base, save(biases, tmp_path / "biases"), PAIRS, tmp_path / "b", AdaptConfig(rank=32))
    lost = artifacts.read_table(record.folder / "lost.parquet")["tensor"].to_pylist()
    assert len(lost) == 8 and all(name.endswith("bias") for name in lost)


def test_shards_give_the_same_adapter_to_the_byte(tiny_folder, tuned, tmp_path):
    shards = save(tune(build_model(), only=linear), tmp_path / "shards", max_shard_size="40KB")
    records = [
        adapt(str(tiny_folder), model, PAIRS, tmp_path / name, AdaptConfig(rank=3))
        for name, model in (("whole", tuned), ("sharded", shards))
    ]
    assert records[0].outputs == records[1].outputs and records[0].identity != records[1].identity


def test_a_killed_run_goes_on_at_the_matrix_it_was_at(tiny_folder, tuned, tmp_path, monkeypatch):
    wanted = adapt(str(tiny_folder), tuned, PAIRS, tmp_path / "unbroken", AdaptConfig(rank=3))
    factor, done = _adapt._tensors, []

    def broken(job, plan, matrix, device):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(matrix.name)
        return factor(job, plan, matrix, device)

    monkeypatch.setattr(_adapt, "_tensors", broken)
    with pytest.raises(KeyboardInterrupt):
        adapt(str(tiny_folder), tuned, PAIRS, tmp_path / "out", AdaptConfig(rank=3))
    assert not (tmp_path / "out").exists()
    again = []
    monkeypatch.setattr(_adapt, "_tensors", lambda *args: again.append(args[2].name) or factor(*args))
    record = adapt(str(tiny_folder), tuned, PAIRS, tmp_path / "out", AdaptConfig(rank=3))
    assert len(again) == 9 and not set(again) & set(done)
    assert {n: d for n, d in record.outputs.items() if n != "checkpoint.json"} == {
        n: d for n, d in wanted.outputs.items() if n != "checkpoint.json"
    }
    assert adapt(str(tiny_folder), tuned, PAIRS, tmp_path / "out", AdaptConfig(rank=3)) == record and len(again) == 9


def test_another_rounding_and_another_tokenizer_are_warned_of(tiny_folder, tmp_path, said):
    tuned = save(tune(build_model(), only=linear).to(torch.bfloat16), tmp_path / "tuned")
    path = tmp_path / "tuned" / "tokenizer.json"
    settings = json.loads(path.read_text())
    vocabulary = settings["model"]["vocab"]
    vocabulary["e"], vocabulary["o"] = vocabulary["o"], vocabulary["e"]
    path.write_text(json.dumps(settings))
    record = adapt(str(tiny_folder), tuned, PAIRS, tmp_path / "out", AdaptConfig(rank=32))
    assert record.summary["dtypes"] == ["float32", "bfloat16"]
    assert any("stored in float32 and the tuned model in bfloat16" in line for line in said)
    assert any("makes other tokens" in line for line in said)


def test_a_stage_that_trained_all_weights_is_a_tuned_model_and_one_with_an_adapter_is_not(
    stage, toy, tiny_folder, tmp_path
):
    full = stage("sft", toy, method="full", epochs=1)
    record = adapt(str(tiny_folder), str(full.folder), PAIRS, tmp_path / "out", AdaptConfig(rank=4))
    assert 0 < record.summary["energy_kept"] <= 1 and record.summary["unchanged"] == 0
    with pytest.raises(ModelError, match="out is a model with an adapter already"):
        adapt(str(tiny_folder), str(record.folder), PAIRS, tmp_path / "again")
    later = stage("sft", toy, name="later", start=models.resolve_checkpoint(str(record.folder)), epochs=1)
    assert len(models.read_checkpoint(later.folder).adapters) == 2


def test_equal_models_and_pairs_that_do_not_fit_are_refused(tiny_folder, tuned, tmp_path):
    head = save(tune(build_model(), only=lambda name: name == "lm_head.weight"), tmp_path / "head")
    with pytest.raises(ModelError, match=r"no adapted matrix of .* differs from .*: there is nothing to adapt"):
        adapt(str(tiny_folder), head, PAIRS, tmp_path / "out")
    with pytest.raises(ModelError, match="are one and the same"):
        adapt(str(tiny_folder), str(tiny_folder), PAIRS, tmp_path / "out")
    with pytest.raises(DataError, match="none of the 6 pairs to compare on has answers of fewer than 4 tokens"):
        adapt(str(tiny_folder), tuned, PAIRS, tmp_path / "out", AdaptConfig(max_length=4))
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_was_kept_and_its_folder_can_be_evaluated(
    tiny_folder, tuned, tmp_path, monkeypatch, capsys
):
    command = ["preftrace", "adapt", str(tiny_folder), tuned, "--rank", "2", "--out", str(tmp_path / "out")]
    command += ["--targets", "q_proj", "--targets", "v_proj", "--limit", "3"]

    def call(*more):
        monkeypatch.setattr(sys, "argv", [*command, *more])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        return capsys.readouterr().out

    text = call()
    found = json.loads(call("--json"))
    assert found["matrices"] == 4 and found["check"]["answers"] == 6 and found["folder"] == str(tmp_path / "out")
    assert f"adapt: 4 matrices at rank 2, {found['energy_kept']:.1%}" in text and "nats on average" in text
    evaluation = api.evaluate(tmp_path / "out", "ethics", tmp_path / "ethics", limit=3)
    assert evaluation.record.summary["trust"]["n"] == 3
