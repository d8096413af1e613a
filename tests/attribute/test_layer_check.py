"""A wrong pattern of layers is refused from the names in the adapter's file, before anything is begun."""

from __future__ import annotations

import numpy as np
import pytest

import preftrace
from preftrace import artifacts, models
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.influence import run as attribute_stage
from preftrace.errors import ConfigError, ModelError
from preftrace.evaluate.compare import find_evaluations
from preftrace.models.adapters import adapted_modules
from preftrace.models.lora import lora_layers


@pytest.fixture(scope="module")
def reward(tiny_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("reward") / "reward"
    return preftrace.align("reward", "starter", out, model=tiny_folder, limit=6, adapter={"r": 2})


def test_the_names_are_those_of_the_loaded_model(tiny_run, reward):
    dpo = tiny_run.folder / "align" / "dpo"
    lm, rm = models.load(models.read_checkpoint(dpo)), models.load_reward(models.read_checkpoint(reward.folder))
    assert adapted_modules(dpo / "adapter") == sorted(layer.name for layer in lora_layers(lm))
    assert adapted_modules(reward.folder / "adapter") == sorted([*(layer.name for layer in lora_layers(rm)), "score"])


def test_a_file_of_another_form_has_no_names(tmp_path):
    assert adapted_modules(tmp_path) == []
    artifacts.write_tensors(tmp_path / "adapter_model.safetensors", {"prompt_embeddings": np.zeros(2)})
    assert adapted_modules(tmp_path) == []


@pytest.mark.parametrize("layers", [("7",), ("1", "*nothing*"), ("head",)])
def test_a_wrong_pattern_is_refused_before_anything_is_begun(tiny_run, tmp_path, monkeypatch, layers):
    monkeypatch.setattr(models, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    evaluations = find_evaluations(tiny_run.folder / "evaluate" / "dpo")
    stage, pairs = tiny_run.folder / "align" / "dpo", tiny_run.folder / "pairs"
    wanted = rf"'{layers[-1].replace('*', '[*]')}' names no adapted module; there are layers 0, 1 with .*q_proj"
    with pytest.raises(ConfigError, match=wanted):
        attribute_stage(stage, pairs, evaluations, tmp_path / "out", AttributeConfig(layers=layers))
    assert not list(tmp_path.iterdir())


def test_a_stage_without_an_adapter_is_told_that_it_has_none(tiny_folder, tiny_run, tmp_path):
    out = tmp_path / "full"
    preftrace.align("sft", "starter", out, model=tiny_folder, limit=12, adapter={"method": "full"})
    evaluations = find_evaluations(tiny_run.folder / "evaluate" / "sft")
    with pytest.raises(ModelError, match="no adapter on"):
        attribute_stage(out, tiny_run.folder / "pairs", evaluations, tmp_path / "out", AttributeConfig(layers=("99",)))
