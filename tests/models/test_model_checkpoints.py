"""Checkpoints: names and hashes of models, adapters merged in their order, and what cannot be loaded."""

import json
import os
import shutil

import pytest
import torch

from preftrace import models
from preftrace.config import AdapterConfig
from preftrace.errors import ModelError
from preftrace.models.adapters import attach, save_adapter, save_model
from preftrace.models.lora import lora_layers
from preftrace.types import Checkpoint
from tests.conftest import build_model, build_tokenizer


@pytest.fixture(scope="module")
def adapters(tiny_folder, tmp_path_factory):
    """Two adapters that really change the model."""
    home = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("first", "second")):
        wrapped = attach(build_model(), AdapterConfig(r=2, alpha=4), seed)
        with torch.no_grad():
            for key, parameter in wrapped.named_parameters():
                if "lora_B" in key:
                    parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(seed + 10))
        (home / name).mkdir()
        save_adapter(wrapped, home / name)
    return [str(home / "first"), str(home / "second")]


IDS = torch.arange(40).reshape(2, 20)


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def test_earlier_adapters_are_merged_and_the_last_stays_on(tiny_folder, adapters):
    lm = models.load(Checkpoint(str(tiny_folder), tuple(adapters)))
    assert len(lora_layers(lm)) == 14
    plain = models.load(Checkpoint(str(tiny_folder), tuple(adapters)), merge=True)
    with pytest.raises(ModelError, match="no adapter on"):
        lora_layers(plain)
    torch.testing.assert_close(logits(lm.model), logits(plain.model), rtol=1e-4, atol=1e-4)


def test_with_the_last_adapter_off_the_model_is_the_one_before(tiny_folder, adapters):
    lm = models.load(Checkpoint(str(tiny_folder), tuple(adapters)))
    before = models.load(Checkpoint(str(tiny_folder), (adapters[0],)), merge=True)
    with lm.model.disable_adapter():
        torch.testing.assert_close(logits(lm.model), logits(before.model), rtol=0, atol=0)
    assert not torch.allclose(logits(lm.model), logits(before.model), atol=1e-2)


def test_merging_adds_scale_times_b_a_in_the_order_of_the_adapters(tiny_folder, adapters):
    """W + (alpha / r) B1 A1 + (alpha / r) B2 A2, for one matrix by hand."""
    from safetensors.torch import load_file

    name = "model.layers.1.mlp.down_proj"
    weight = dict(models.load(Checkpoint(str(tiny_folder))).model.named_parameters())[f"{name}.weight"].detach().clone()
    for adapter in adapters:
        tensors = load_file(f"{adapter}/adapter_model.safetensors")
        b, a = (tensors[f"base_model.model.{name}.lora_{x}.weight"] for x in "BA")
        weight += 4 / 2 * b @ a
    merged = models.load(Checkpoint(str(tiny_folder), tuple(adapters)), merge=True)
    torch.testing.assert_close(dict(merged.model.named_parameters())[f"{name}.weight"].detach(), weight)


def test_the_same_adapter_twice_is_merged_once_and_left_on_once(tiny_folder, adapters):
    """A path that stands twice in a chain is two steps of it."""
    lm = models.load(Checkpoint(str(tiny_folder), (adapters[0], adapters[0])))
    once = models.load(Checkpoint(str(tiny_folder), (adapters[0],)), merge=True)
    assert len(lora_layers(lm)) == 14
    with lm.model.disable_adapter():
        torch.testing.assert_close(logits(lm.model), logits(once.model))


def test_a_saved_adapter_holds_nothing_of_this_machine_and_repeats_to_the_byte(tiny_folder, adapters, tmp_path):
    again = attach(build_model(), AdapterConfig(r=2, alpha=4), 5)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_adapter(again, tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    assert str(tmp_path) not in (tmp_path / "a" / "adapter_config.json").read_text()


def test_attaching_repeats_for_a_seed_and_leaves_the_callers_draws_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again, other = (attach(build_model(), AdapterConfig(r=2), seed).state_dict() for seed in (1, 1, 2))
    # build_model seeds the global generator itself, so the draw to compare with is made after it.
    torch.manual_seed(3)
    attach(build_model_keeping_state(), AdapterConfig(r=2), 1)
    assert torch.equal(torch.rand(1), expected)
    key = next(k for k in first if "lora_A" in k)
    assert torch.equal(first[key], again[key]) and not torch.equal(first[key], other[key])


def build_model_keeping_state():
    with torch.random.fork_rng():
        return build_model()


def test_a_checkpoint_comes_back_and_a_moved_run_still_finds_its_adapters(tiny_folder, adapters, tmp_path):
    run = tmp_path / "run"
    for name, adapter in zip(("sft", "dpo"), adapters, strict=True):
        shutil.copytree(adapter, run / "align" / name / "adapter")
    chain = tuple(str(run / "align" / name / "adapter") for name in ("sft", "dpo"))
    models.write_checkpoint(run / "align" / "dpo", Checkpoint("starter", chain))
    assert models.read_checkpoint(run / "align" / "dpo") == Checkpoint("starter", chain)
    moved = tmp_path / "elsewhere" / "deep"
    moved.parent.mkdir()
    os.rename(run, moved)
    expected = tuple(str(moved / "align" / name / "adapter") for name in ("sft", "dpo"))
    assert models.read_checkpoint(moved / "align" / "dpo") == Checkpoint("starter", expected)
    assert str(tmp_path) not in (moved / "align" / "dpo" / "checkpoint.json").read_text()


def test_paths_are_relative_to_where_the_folder_will_lie(tmp_path):
    work, final = tmp_path / "align" / "sft.partial", tmp_path / "align" / "sft"
    work.mkdir(parents=True)
    models.write_checkpoint(work, Checkpoint("owner/name", (str(final / "adapter"),)), final)
    written = json.loads((work / "checkpoint.json").read_text())
    assert written == {"model": "owner/name", "adapters": ["./adapter"]}


def test_a_model_folder_keeps_its_place_and_one_that_a_stage_made_moves_with_the_run(tiny_folder, tmp_path):
    align = tmp_path / "align"
    for name, model in (("sft", tiny_folder), ("full", align / "full" / "model")):
        (align / name).mkdir(parents=True)
        models.write_checkpoint(align / name, Checkpoint(str(model)))
        assert models.read_checkpoint(align / name) == Checkpoint(str(model))
    assert models.resolve_checkpoint(str(align / "sft")) == Checkpoint(str(tiny_folder))
    assert models.resolve_checkpoint("owner/name") == Checkpoint("owner/name")
    align.rename(tmp_path / "moved")
    assert models.read_checkpoint(tmp_path / "moved" / "sft") == Checkpoint(str(tiny_folder))
    assert models.read_checkpoint(tmp_path / "moved" / "full") == Checkpoint(str(tmp_path / "moved/full/model"))


def test_a_checkpoint_whose_adapter_is_gone_is_told(tmp_path):
    (tmp_path / "sft").mkdir()
    models.write_checkpoint(tmp_path / "sft", Checkpoint("starter", (str(tmp_path / "gone"),)))
    with pytest.raises(ModelError, match=r"names the adapter .*gone, which is gone\. Run the study again"):
        models.read_checkpoint(tmp_path / "sft")
    with pytest.raises(ModelError, match=r"has no checkpoint\.json: it is not the folder of a finished training stage"):
        models.read_checkpoint(tmp_path)


def test_a_fingerprint_is_of_what_the_files_hold(tiny_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    assert models.fingerprint(str(copy)) == models.fingerprint(str(tiny_folder))
    (copy / "notes.md").write_text("not part of the model")
    assert models.fingerprint(str(copy)) == models.fingerprint(str(tiny_folder))
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert models.fingerprint(str(copy)) != models.fingerprint(str(tiny_folder))


def test_a_checkpoints_hash_is_of_the_model_and_of_every_adapter_in_order(tiny_folder, adapters):
    chains = [(), (adapters[0],), (adapters[1],), tuple(adapters), tuple(reversed(adapters))]
    hashes = {models.checkpoint_hash(Checkpoint(str(tiny_folder), chain)) for chain in chains}
    assert len(hashes) == len(chains)


def test_a_whole_model_saved_is_a_model_to_load(tiny, tmp_path):
    save_model(tiny.model, tiny.tokenizer, tmp_path / "model")
    again = models.load(Checkpoint(str(tmp_path / "model")))
    assert torch.equal(logits(again.model), logits(tiny.model))


def folder_without(tiny_folder, tmp_path, name):
    copy = tmp_path / "broken"
    shutil.copytree(tiny_folder, copy)
    (copy / name).unlink()
    return copy


def test_a_folder_without_config_or_weights_is_told(tiny_folder, tmp_path):
    copy = folder_without(tiny_folder, tmp_path, "config.json")
    with pytest.raises(ModelError, match=r"broken is not a model folder: it has no config\.json"):
        models.load(Checkpoint(str(copy)))
    shutil.copy(tiny_folder / "config.json", copy)
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(ModelError, match=r"has no \*\.safetensors weights\. .* pickled weights are not read"):
        models.load(Checkpoint(str(copy)))


@pytest.mark.parametrize("name", ["nothing-here", "./nothing", "/nothing/here", "a/b/c", "a/", ""])
def test_a_name_that_is_no_model_is_told(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"it is not an existing folder, not a Hub id|is not a model folder"):
        models.fingerprint(name)


@pytest.mark.parametrize("spoil", ["config.json", "model.safetensors", "tokenizer.json"])
def test_files_that_break_off_are_told(tiny_folder, tmp_path, spoil):
    copy = tmp_path / "broken"
    shutil.copytree(tiny_folder, copy)
    (copy / spoil).write_bytes((copy / spoil).read_bytes()[:40])
    with pytest.raises(ModelError, match=r"cannot load the (model|tokenizer of) '.*broken'"):
        models.load(Checkpoint(str(copy)))


def test_weights_of_another_shape_are_told(tiny_folder, tmp_path):
    copy = tmp_path / "broken"
    shutil.copytree(tiny_folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "hidden_size": 48}))
    with pytest.raises(ModelError, match="cannot load the model"):
        models.load(Checkpoint(str(copy)))


def test_chat_needs_a_template_and_everything_needs_an_end_token(tiny_folder, tmp_path):
    plain = tmp_path / "plain"
    shutil.copytree(tiny_folder, plain)
    tokenizer = build_tokenizer()
    tokenizer.chat_template = None
    (plain / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(plain)
    assert models.load_tokenizer(str(plain), "raw")
    with pytest.raises(ModelError, match=r"format 'chat' needs a chat template .*use format: raw"):
        models.load_tokenizer(str(plain), "chat")
    with pytest.raises(ModelError, match="unknown prompt format 'xml'; known: raw, chat"):
        models.load_tokenizer(str(plain), "xml")
    endless = tmp_path / "endless"
    shutil.copytree(tiny_folder, endless)
    tokenizer = build_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(endless)
    with pytest.raises(ModelError, match="has no end-of-sequence token"):
        models.load_tokenizer(str(endless))


def test_an_adapter_that_is_none_or_of_another_model_is_told(tiny_folder, adapters, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors"):
        models.load(Checkpoint(str(tiny_folder), (str(tmp_path / "empty"),)))
    wide = tmp_path / "wide"
    build_model(hidden_size=48, num_attention_heads=4).save_pretrained(wide)
    build_tokenizer().save_pretrained(wide)
    with pytest.raises(ModelError, match="cannot load the adapter"):
        models.load(Checkpoint(str(wide), (adapters[0],)))


def test_an_adapter_that_breaks_off_is_told(tiny_folder, adapters, tmp_path):
    shutil.copytree(adapters[0], tmp_path / "broken")
    weights = tmp_path / "broken" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:40])
    with pytest.raises(ModelError, match=r"cannot load the adapter .*broken"):
        models.load(Checkpoint(str(tiny_folder), (str(tmp_path / "broken"),)))


def test_an_unknown_precision_lists_the_known_ones(tiny_folder):
    with pytest.raises(ModelError, match="unknown precision 'int1'; known: auto, float32, bfloat16"):
        models.load(Checkpoint(str(tiny_folder)), precision="int1")


@pytest.mark.parametrize("merge", [True, False])
def test_bfloat16_is_the_precision_of_the_weights_and_not_of_an_adapter_that_is_on(tiny_folder, tmp_path, merge):
    """What is merged is merged in float32 first; an adapter that stays on stays float32."""
    import torch

    from preftrace.config import AdapterConfig
    from preftrace.models import adapters

    model = adapters.attach(models.load(Checkpoint(str(tiny_folder))).model, AdapterConfig(r=2), 0)
    adapters.save_adapter(model, tmp_path / "adapter")
    lm = models.load(Checkpoint(str(tiny_folder), (str(tmp_path / "adapter"),)), merge=merge, precision="bfloat16")
    kinds = {"lora" in name: parameter.dtype for name, parameter in lm.model.named_parameters()}
    assert kinds == ({False: torch.bfloat16} if merge else {False: torch.bfloat16, True: torch.float32})
    rows = [models.encode(lm.tokenizer, "Yes?", "no", "raw")]
    assert models.completion_logprobs(lm, rows)[0] < 0
