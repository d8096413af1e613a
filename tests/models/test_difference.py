"""The difference of two whole models: balanced factors against numpy, whole files or shards, what is refused."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from preftrace.config import AdapterConfig
from preftrace.errors import ConfigError, ModelError
from preftrace.models.difference import balanced_factors, difference, dtypes, plan
from preftrace.models.weights import INDEX, SINGLE, open_weights
from tests.conftest import build_model, build_tokenizer

ADAPTER = AdapterConfig(r=4, alpha=4)


def matrix(rows, columns, decay=0.7, seed=0):
    """A matrix with singular values 1, decay, decay^2 ..."""
    rng = np.random.default_rng(seed)
    k = min(rows, columns)
    left, right = (np.linalg.qr(rng.normal(size=(n, k)))[0] for n in (rows, columns))
    return torch.tensor((left * decay ** np.arange(k)) @ right.T, dtype=torch.float32)


def tune(model, seed=1, scale=0.02, only=lambda name: True):
    """The model with noise on its tensors."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if only(name):
                tensor += scale * torch.randn(tensor.shape, generator=draw)
    return model


def save(model, folder, **how):
    model.save_pretrained(folder, **how)
    build_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def tuned(tmp_path):
    return save(tune(build_model()), tmp_path / "tuned")


@pytest.mark.parametrize("shape", [(32, 32), (64, 16), (16, 64)])
@pytest.mark.parametrize("r", [1, 5])
def test_factors_are_numpys_best_rank_r_piece_in_balance(shape, r):
    delta = matrix(*shape)
    s = np.linalg.svd(delta.double().numpy(), compute_uv=False)
    found = balanced_factors(delta, r)
    assert found.a.shape == (r, shape[1]) and found.b.shape == (shape[0], r)
    assert found.energy == pytest.approx((s[:r] ** 2).sum() / (delta.double().numpy() ** 2).sum(), rel=1e-6)
    assert found.norm == pytest.approx(np.linalg.norm(s), rel=1e-6) and found.left_out == pytest.approx(s[r], rel=1e-4)
    wanted = torch.diag(torch.tensor(s[:r], dtype=torch.float32))
    torch.testing.assert_close(found.a @ found.a.T, wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.b.T @ found.b, wanted, rtol=0, atol=1e-6)
    missed = float((delta - found.b @ found.a).double().square().sum())
    assert missed == pytest.approx((s[r:] ** 2).sum(), rel=1e-4)


def test_a_rank_above_the_matrixs_own_keeps_all_and_fills_up_with_zeros():
    delta = matrix(6, 9)
    found = balanced_factors(delta, 8)
    torch.testing.assert_close(found.b @ found.a, delta, rtol=0, atol=1e-6)
    assert found.energy == pytest.approx(1, abs=1e-6) and found.left_out == 0
    assert not found.a[6:].any() and not found.b[:, 6:].any()


def test_a_matrix_that_did_not_change_has_zero_factors_and_no_energy():
    found = balanced_factors(torch.zeros(5, 7), 2)
    assert not found.a.any() and not found.b.any() and found.norm == 0
    assert math.isnan(found.energy)


def test_the_random_svd_repeats_for_a_seed_comes_near_the_exact_one_and_disturbs_no_other_draw():
    delta = matrix(120, 90, decay=0.8)
    exact = balanced_factors(delta, 6)
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    first, again = balanced_factors(delta, 6, seed=5), balanced_factors(delta, 6, seed=5)
    assert torch.equal(torch.rand(4), wanted)
    assert torch.equal(first.a, again.a) and torch.equal(first.b, again.b)
    torch.testing.assert_close(first.b @ first.a, exact.b @ exact.a, rtol=0, atol=1e-3)
    assert first.energy <= exact.energy + 1e-6 and first.energy == pytest.approx(exact.energy, abs=1e-4)
    assert first.left_out == pytest.approx(exact.left_out, rel=1e-2)


def test_every_tensor_is_in_an_adapter_or_left_over_and_none_is_in_both(tiny_folder, tuned):
    made = plan(str(tiny_folder), tuned, ADAPTER)
    held = [f"{m.name}.weight" for m in made.matrices]
    rest = [place.name for place in made.rest]
    assert len(held) == 14 and "lm_head.weight" in rest and "model.embed_tokens.weight" in rest
    assert sorted(held + rest) == sorted(open_weights(str(tiny_folder)).files)
    assert {m.key for m in made.matrices} == {f"base_model.model.{m.name}" for m in made.matrices}


def test_named_targets_are_adapted_alone(tiny_folder, tuned):
    made = plan(str(tiny_folder), tuned, AdapterConfig(r=4, alpha=4, targets=("q_proj", "down_proj")))
    assert sorted({m.name.rpartition(".")[2] for m in made.matrices}) == ["down_proj", "q_proj"]
    assert len(made.matrices) == 4


def test_a_difference_is_tuned_less_base_whether_sharded_or_not(tiny_folder, tuned, tmp_path):
    shards = save(tune(build_model()), tmp_path / "shards", max_shard_size="40KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    one, many = plan(str(tiny_folder), tuned, ADAPTER), plan(str(tiny_folder), shards, ADAPTER)
    before, after = (load_file(f"{folder}/{SINGLE}") for folder in (tiny_folder, tuned))
    places = [[*(m.place for m in made.matrices), *made.rest] for made in (one, many)]
    for left, right in zip(*places, strict=True):
        delta, norm = difference(one, left)
        assert torch.equal(delta, after[left.name] - before[left.name])
        assert torch.equal(delta, difference(many, right)[0])
        assert norm == pytest.approx(float(before[left.name].double().norm()))


def test_tied_embeddings_are_one_tensor(tmp_path):
    base = save(build_model(tie_word_embeddings=True), tmp_path / "base")
    tuned = save(tune(build_model(tie_word_embeddings=True)), tmp_path / "tuned")
    made = plan(base, tuned, ADAPTER)
    assert [p.name for p in made.rest].count("model.embed_tokens.weight") == 1
    assert "lm_head.weight" not in [p.name for p in made.rest]
    with pytest.raises(ConfigError, match="lm_head shares its weight"):
        plan(base, tuned, AdapterConfig(targets=("lm_head",)))


def test_an_embedding_may_have_grown(tiny_folder, tmp_path):
    model = tune(build_model())
    model.resize_token_embeddings(262)
    made = plan(str(tiny_folder), save(model, tmp_path / "grown"), ADAPTER)
    (embedding,) = [place for place in made.rest if place.name == "model.embed_tokens.weight"]
    assert difference(made, embedding)[0].shape == (258, 32)


def test_files_may_name_tensors_without_the_base_models_prefix(tiny_folder, tuned, tmp_path):
    shutil.copytree(tuned, tmp_path / "bare")
    tensors = load_file(f"{tuned}/{SINGLE}")
    save_file({n.removeprefix("model."): t for n, t in tensors.items()}, tmp_path / "bare" / SINGLE, {"format": "pt"})
    one, bare = (plan(str(tiny_folder), str(folder), ADAPTER) for folder in (tuned, tmp_path / "bare"))
    first = one.matrices[0].place, bare.matrices[0].place
    assert torch.equal(difference(one, first[0])[0], difference(bare, first[1])[0])


def test_bfloat16_is_widened_before_it_is_subtracted(tiny_folder, tmp_path):
    model = tune(build_model())
    made = plan(str(tiny_folder), save(model.to(torch.bfloat16), tmp_path / "half"), ADAPTER)
    delta, _ = difference(made, made.matrices[0].place)
    base = load_file(tiny_folder / SINGLE)[made.matrices[0].place.name]
    tuned = load_file(tmp_path / "half" / SINGLE)[made.matrices[0].place.name]
    assert delta.dtype == torch.float32 and torch.equal(delta, tuned.float() - base)
    assert dtypes(made) == ("float32", "bfloat16")


def test_a_model_in_the_hubs_cache_is_read_by_its_commit(tiny_folder, tuned, tmp_path, monkeypatch):
    from huggingface_hub import constants

    from preftrace.models import checkpoints

    home, commit = tmp_path / "hub" / "models--someone--tuned", "a" * 40
    shutil.copytree(tuned, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    checkpoints._commit.cache_clear()
    files = open_weights("someone/tuned").files
    assert {path.resolve() for path in files.values()} == {home / "snapshots" / commit / SINGLE}


def other_layers(folder):
    save(build_model(num_hidden_layers=3), folder)


def other_width(folder):
    save(build_model(hidden_size=64), folder)


def other_architecture(folder):
    from transformers import GPT2Config, GPT2LMHeadModel

    size = {"vocab_size": 258, "n_embd": 32, "n_layer": 2, "n_head": 4}
    save(GPT2LMHeadModel(GPT2Config(**size, bos_token_id=256, eos_token_id=256)), folder)


def classifier(folder):
    other_width(folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"architectures": ["LlamaForSequenceClassification"]}))


def quantised(folder):
    other_width(folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"quantization_config": {"quant_method": "gptq"}}))


def pickled(folder):
    save(build_model(), folder)
    (folder / SINGLE).rename(folder / "pytorch_model.bin")


def pickled_beside_something_else(folder):
    pickled(folder)
    save_file({"x": torch.zeros(1)}, folder / "optimizer.safetensors")


def lost_shard(folder):
    save(build_model(), folder, max_shard_size="40KB")
    sorted(folder.glob("*.safetensors"))[1].unlink()


def strange_shard(folder):
    lost_shard(folder)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"x": "../../secret.safetensors"}}))


def broken_index(folder):
    lost_shard(folder)
    (folder / INDEX).write_text("[]")


def broken_file(folder):
    save(build_model(), folder)
    (folder / SINGLE).write_bytes(b"\x10\x00")


def lost_tensor(folder):
    save(build_model(), folder)
    tensors = load_file(folder / SINGLE)
    del tensors["model.norm.weight"]
    save_file(tensors, folder / SINGLE, {"format": "pt"})


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (other_layers, r"different architectures: model\.layers\.2\.\S+ is in one of them only \(9 such tensors\)"),
        (other_width, r"different sizes: model\.embed_tokens\.weight is 258 x 32 and 258 x 64 \(21 such tensors\)"),
        (other_architecture, r"different architectures \(LlamaForCausalLM and GPT2LMHeadModel\)"),
        (classifier, r"other' is a classifier or reward model"),
        (quantised, r"other' is quantised"),
        (pickled, r"has no \*\.safetensors weights.*pickled weights are not read"),
        (pickled_beside_something_else, r"neither model\.safetensors nor .*pickled weights .* can run code"),
        (lost_shard, r"names model-00002-of-\d+\.safetensors, which is not there"),
        (strange_shard, r"names \.\./\.\./secret\.safetensors, which is not there"),
        (broken_index, r"is not the index of a sharded model"),
        (broken_file, r"cannot load the weights of '.*other': model\.safetensors"),
        (lost_tensor, r"the weights of '.*other' lack model\.norm\.weight"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_has_no_difference_is_refused_in_one_message(make, told, tiny_folder, tmp_path):
    make(tmp_path / "other")
    with pytest.raises(ModelError, match=told):
        plan(str(tiny_folder), str(tmp_path / "other"), ADAPTER)


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (("embed_tokens",), r"targets: model\.embed_tokens is not a linear module"),
        (("no_such",), r"targets: Target modules .*no_such.* not found"),
    ],
)
def test_targets_that_are_no_linear_module_are_refused(targets, told, tiny_folder, tuned):
    with pytest.raises(ConfigError, match=told):
        plan(str(tiny_folder), tuned, AdapterConfig(targets=targets))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.to(torch.int8), r"q_proj\.weight of '.*tuned' is stored as int8: quantised weights"),
        (lambda t: t.to(torch.float8_e4m3fn), r"is stored as float8_e4m3fn"),
        (lambda t: t.index_fill(0, torch.tensor([0]), math.inf), r"q_proj\.weight of .* is not finite"),
    ],
)
def test_a_tensor_that_is_no_plain_number_is_refused(change, told, tiny_folder, tuned):
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors = load_file(f"{tuned}/{SINGLE}")
    save_file({**tensors, name: change(tensors[name])}, f"{tuned}/{SINGLE}", {"format": "pt"})
    made = plan(str(tiny_folder), tuned, ADAPTER)
    (place,) = [m.place for m in made.matrices if m.place.name == name]
    with pytest.raises(ModelError, match=told):
        difference(made, place)
