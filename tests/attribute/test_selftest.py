"""The self-test says ok of a sound model, and finds what was broken on purpose."""

from __future__ import annotations

import json
import math
import sys

import pytest
import torch

import preftrace
from preftrace import models
from preftrace.attribute import selftest
from preftrace.attribute.capture import Capture
from preftrace.cli import main
from preftrace.models import packing
from tests.conftest import build_model, build_tokenizer

NAMES = ["numbers", "shared prompts", "pair gradients", "repeats", "bfloat16"]


def status(health):
    return {check.name: check.status for check in health.checks}


def doctor(monkeypatch, capsys, *words):
    """Exit code and standard output of the command."""
    monkeypatch.setattr(sys, "argv", ["preftrace", "doctor", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, capsys.readouterr().out


def test_a_sound_model_is_ok_in_float32(tiny_folder):
    health = preftrace.doctor(tiny_folder)
    assert health.ok and status(health) == dict.fromkeys(NAMES, "ok")
    found = {check.name: check.found for check in health.checks}
    assert 0 < found["pair gradients"] <= 1e-4 and 0 < found["shared prompts"] <= 1e-4 < found["bfloat16"]
    assert health.facts["adapter"] == "random" and health.facts["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize("precision", ["bfloat16", "autocast", "float64"])
def test_other_precisions_are_held_to_their_own_limits(tiny_folder, precision):
    health = preftrace.doctor(tiny_folder, precision=precision)
    assert health.ok and health.facts["precision"] == precision
    gradients = next(check for check in health.checks if check.name == "pair gradients")
    assert (gradients.found <= 1e-4) == (precision == "float64")


def test_a_trained_stage_is_looked_at_with_its_own_adapter(tiny_run):
    health = preftrace.doctor(tiny_run.folder / "align" / "dpo")
    assert health.ok and health.facts["adapter"].endswith("dpo/adapter")
    alone = preftrace.doctor(health.facts["model"], adapter=health.facts["adapter"])
    assert alone.ok and status(alone) == status(health)


def test_wrong_gradients_fail_and_the_matrix_is_named(tiny_folder, monkeypatch, capsys):
    real = Capture._add

    def wrong(self, layer, x, delta):
        real(self, layer, x, delta * (1.001 if "1.mlp.down_proj" in layer.name else 1))

    monkeypatch.setattr(Capture, "_add", wrong)
    code, said = doctor(monkeypatch, capsys, tiny_folder)
    line = next(line for line in said.splitlines() if "pair gradients" in line)
    assert code == 1 and line.startswith("FAIL") and "layers.1.mlp.down_proj" in line and "1.0e-03" in line


def test_a_gradient_that_is_no_number_fails_whatever_comes_after_it(tiny_folder, monkeypatch):
    real = Capture._outer

    def lost(self, name, left, right, owners):
        real(self, name, left * float("nan") if "layers.1.mlp.up_proj.lora_A" in name else left, right, owners)

    monkeypatch.setattr(Capture, "_outer", lost)
    health = preftrace.doctor(tiny_folder)
    assert status(health)["pair gradients"] == "FAIL"
    assert "layers.1.mlp.up_proj.lora_A" in next(c.message for c in health.checks if c.name == "pair gradients")


def test_log_probabilities_that_differ_where_answers_share_fail(tiny_folder, monkeypatch):
    """The hidden states agree on a few tokens, and the packed rows are still read wrong."""
    real = packing.pack

    def wrong(rows, keys, pad_id):
        packed = real(rows, keys, pad_id)
        return packed._replace(tokens=packed.tokens.flip(0)) if len(rows) == 4 and len(set(keys)) == 2 else packed

    monkeypatch.setattr(packing, "pack", wrong)
    health = preftrace.doctor(tiny_folder)
    assert not health.ok and status(health)["shared prompts"] == "FAIL"


def test_a_model_that_cannot_share_prompts_is_a_note(tiny_folder, monkeypatch):
    from transformers import LlamaModel

    real = LlamaModel.forward
    monkeypatch.setattr(LlamaModel, "forward", lambda self, *a, position_ids=None, **k: real(self, *a, **k))
    health = preftrace.doctor(tiny_folder)
    assert health.ok and status(health)["shared prompts"] == "note" and status(health)["pair gradients"] == "ok"
    check = next(check for check in health.checks if check.name == "shared prompts")
    assert check.found > check.limit and "slower" in check.message


def test_broken_weights_fail_at_once(tmp_path, monkeypatch, capsys):
    model = build_model()
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = math.nan
    model.save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    code, said = doctor(monkeypatch, capsys, tmp_path, "--json")
    found = json.loads(said)
    assert code == 1 and found["ok"] is False
    assert [(check["name"], check["status"]) for check in found["checks"]] == [("numbers", "FAIL")]


def test_json_and_lines_say_the_same(tiny_folder, monkeypatch, capsys):
    code, lines = doctor(monkeypatch, capsys, tiny_folder)
    assert code == 0
    code, said = doctor(monkeypatch, capsys, tiny_folder, "--json")
    found = json.loads(said)
    assert code == 0 and found["ok"] and [check["name"] for check in found["checks"]] == NAMES
    assert all(check["message"].split(";")[0] in lines for check in found["checks"] if check["name"] != "bfloat16")
    assert found["facts"]["versions"]["trl"] in lines and found["facts"]["threads"] == torch.get_num_threads()


def test_what_does_not_repeat_is_a_note():
    assert selftest._repeats(1e-9).status == "note" and selftest._repeats(0.0).status == "ok"


def test_every_use_of_a_model_looks_first_whether_its_answers_may_share(tiny, monkeypatch):
    """Training, evaluation and influence come through here: a fall-back is heard in each."""
    looked = []
    monkeypatch.setattr(packing, "sharing_error", lambda lm: looked.append(1) or math.inf)
    said = []
    monkeypatch.setattr(packing.progress, "say", said.append)
    rows = [models.encode(tiny.tokenizer, "a", text, "raw") for text in ("b", "c")]
    models.answer_logprobs(tiny, rows)
    models.completion_logprobs(tiny, rows)
    assert len(looked) == len(said) == 1 and said[0].startswith("warning: ") and "doctor" in said[0]
