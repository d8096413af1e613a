"""A score taken apart, by answer and by token: the parts are right by themselves, and they add up."""

from __future__ import annotations

import itertools
from dataclasses import asdict

import numpy as np
import pytest
import torch

import preftrace
from preftrace import artifacts, models
from preftrace.attribute import tokens
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.influence import run as attribute_stage
from preftrace.attribute.pair_model import PairModel, load_model
from preftrace.attribute.sides import add_sides, side_scores
from preftrace.attribute.streaming import DIRECTIONS, Passes
from preftrace.attribute.tokens import TokenWorker, ends, pieces, token_table
from preftrace.engines import Resources
from preftrace.errors import ArtifactError
from preftrace.evaluate.compare import find_evaluations
from preftrace.models import packing
from preftrace.models.lora import lora_layers
from preftrace.models.losses import dpo_loss
from tests.conftest import build_tokenizer

METHODS = ("identity", "datainf")
VERTICALS = ("a", "b")
LOSSES = {
    "sft": {"kind": "sft", "max_length": 512},
    "dpo": {"kind": "dpo", "max_length": 512, "beta": 0.1},
    "reward": {"kind": "reward", "max_length": 512, "margin": None, "label_smoothing": 0.1, "centring": 0.2},
}


@pytest.fixture(scope="module")
def trained(tiny_run, tiny_folder, tmp_path_factory):
    """Kind of loss -> the checkpoint of a stage trained with it."""
    out = tmp_path_factory.mktemp("reward") / "reward"
    stage = preftrace.align("reward", "starter", out, model=tiny_folder, limit=6, adapter={"r": 2}, learning_rate=0.01)
    places = {
        "reward": stage.folder,
        "sft": tiny_run.folder / "align" / "sft",
        "dpo": tiny_run.folder / "align" / "dpo",
    }
    return {kind: asdict(models.read_checkpoint(place)) for kind, place in places.items()}


@pytest.fixture(scope="module", params=["sft", "dpo", "reward"])
def scored(request, trained, tiny_run, tmp_path_factory):
    """Passes over a stage's pairs in float64, after scores for two random queries."""
    work = tmp_path_factory.mktemp(f"passes-{request.param}")
    pairs = tiny_run.folder / "pairs" / "pairs.parquet"
    model = {
        "checkpoint": trained[request.param],
        "pairs": str(pairs),
        "loss": LOSSES[request.param],
        "format": "raw",
        "precision": "float64",
        "batch_tokens": 400,
    }
    rng = np.random.default_rng(0)
    sizes = {block: int(np.prod(shape)) for block, shape in PairModel(**model).shapes().items()}
    vectors = {block: rng.normal(size=(2, size)) for block, size in sorted(sizes.items())}
    ids = artifacts.read_table(pairs)["id"].to_pylist()
    passes = Passes(model, len(ids), AttributeConfig(methods=METHODS), work, request.param, Resources())
    return passes, ids, passes.score(vectors).scores


def spread(found: np.ndarray) -> float:
    return float(np.abs(found).max())


def test_both_answers_parts_add_up_to_the_score(scored):
    passes, _, scores = scored
    sides = side_scores(passes, METHODS)
    assert set(sides) == set(METHODS)
    for method, both in sides.items():
        assert np.isnan(both[:, :, 1]).all() == (passes.name == "sft") and not np.isnan(both[:, :, 0]).any()
        np.testing.assert_allclose(np.nansum(both, 2), scores[method], rtol=1e-5, atol=1e-6 * spread(scores[method]))
        if passes.name != "sft":
            assert spread(both[:, :, 1]) > 0.1 * spread(both[:, :, 0])


def directions_of(passes, method, column):
    held = artifacts.read_tensors(passes.work / DIRECTIONS)
    return {
        name.removeprefix(f"{method}/"): value[column] for name, value in held.items() if name.startswith(f"{method}/")
    }


def test_a_side_is_the_gradient_through_its_answer_alone(trained, tiny_run, tmp_path):
    """By autograd: the other answer's log-probability is a number, not a function of the weights."""
    lm = models.load(tiny_run.checkpoint("dpo"), precision="float64")
    pairs = tiny_run.folder / "pairs" / "pairs.parquet"
    model = {"checkpoint": trained["dpo"], "pairs": str(pairs), "loss": LOSSES["dpo"], "format": "raw"}
    model |= {"precision": "float64"}
    rng = np.random.default_rng(1)
    vectors = {b: rng.normal(size=(1, np.prod(s))) for b, s in PairModel(**model).shapes().items()}
    passes = Passes(model, 12, AttributeConfig(methods=("identity",)), tmp_path, "dpo", Resources())
    passes.score(vectors)
    found = side_scores(passes, ["identity"])["identity"]
    reference = artifacts.read_tensors(tmp_path / "_reference.safetensors")["values"]
    named = {f"{la.name}.lora_{side}.weight": w for la in lora_layers(lm) for side, w in (("A", la.a), ("B", la.b))}
    for weight in named.values():
        weight.requires_grad_(True)
    ratios = []
    for k, side in itertools.product((3, 7), (0, 1)):
        pair, ref = tiny_run.pairs()[k], torch.tensor(reference[k])
        rows = models.encode_answers(lm.tokenizer, pair.prompt, [pair.chosen, pair.rejected], "raw", 512)
        values = [models.answer_logprobs(lm, [row]) for row in rows]
        values[1 - side] = values[1 - side].detach()
        loss = dpo_loss(values[0], values[1], ref[0], ref[1], 0.1).sum()
        gradient = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
        products = [(g.reshape(-1), torch.from_numpy(vectors[name][0])) for name, g in gradient.items()]
        size = float(sum(g.norm() * v.norm() for g, v in products))
        wanted = -float(sum(g @ v for g, v in products))
        # Llama's norms go through float32 whatever the weights are.
        assert found[k, 0, side] == pytest.approx(wanted, abs=1e-6 * size)
        ratios.append(abs(wanted) / size)
    assert max(ratios) > 1e-3, "or any number would have passed"


def test_the_tokens_parts_add_up_to_the_score(scored):
    passes, ids, scores = scored
    frame = token_table(passes, ids, scores, VERTICALS, 2).to_pandas()
    total = frame.groupby(["method", "vertical", "pair_id"]).part.sum()
    wanted = {
        (method, vertical, ids[k]): values[k, column]
        for method, values in scores.items()
        for column, vertical in enumerate(VERTICALS)
        for k in ends(values[:, column], 2)
    }
    assert len(wanted) == 2 * 2 * 4 and set(total.index) == set(wanted)
    for key, score in wanted.items():
        assert total[key] == pytest.approx(score, rel=1e-4)
    sides = {"prompt", "chosen"} | (set() if passes.name == "sft" else {"rejected"})
    assert set(frame.side) == sides
    one = frame[(frame.pair_id == ids[ends(scores["identity"][:, 0], 1)[0]])]
    one = one[(one.method == "identity") & (one.vertical == "a")]
    texts = one.groupby("side").token.agg("".join)
    pair = next(p for p in artifacts.read_table(passes.model["pairs"]).to_pylist() if p["id"] == one.pair_id.iloc[0])
    assert texts["prompt"] == pair["prompt"] and texts["chosen"] == f" {pair['chosen']}<eos>"


def test_a_tokens_part_is_the_loss_s_slope_where_the_weights_move_at_its_place_alone(trained, tiny_run, tmp_path):
    """Every adapted module's output gets eps_t times what the direction would add at place t; d loss / d eps_t."""
    pairs = tiny_run.folder / "pairs" / "pairs.parquet"
    model = {"checkpoint": trained["dpo"], "pairs": str(pairs), "loss": LOSSES["dpo"], "format": "raw"}
    model |= {"precision": "float64"}
    rng = np.random.default_rng(2)
    vectors = {b: rng.normal(size=(1, np.prod(s))) for b, s in PairModel(**model).shapes().items()}
    passes = Passes(model, 12, AttributeConfig(methods=("identity",)), tmp_path, "dpo", Resources())
    passes.score(vectors)
    worker = TokenWorker(model, passes.reference(), str(tmp_path / DIRECTIONS), ["identity"])
    found = worker.parts(5, [0])
    lm, rows = load_model(trained["dpo"], "dpo", "raw", "float64"), worker.pairs.rows(5, 6)[0]
    reference = torch.from_numpy(worker.reference(5, 6)[0])
    values, slopes = [], []
    for row in rows:
        eps = torch.zeros(len(row.prompt_ids) + len(row.answer_ids), dtype=torch.float64, requires_grad=True)
        handles = [la.module.register_forward_hook(moved(la, vectors, eps)) for la in lora_layers(lm)]
        values.append(models.answer_logprobs(lm, [row]))
        slopes.append(eps)
        for handle in handles:
            handle.remove()
    loss = dpo_loss(values[0], values[1], reference[0], reference[1], 0.1).sum()
    chosen, rejected = (-g.numpy() for g in torch.autograd.grad(loss, slopes))
    head = len(rows[0].prompt_ids)
    wanted = {"prompt": chosen[:head] + rejected[:head], "chosen": chosen[head:], "rejected": rejected[head:]}
    for side, values in wanted.items():
        np.testing.assert_allclose(found[side][0], values, rtol=1e-5, atol=1e-6 * spread(chosen), err_msg=side)
    assert found["chosen"][0, -1] == 0 and spread(found["prompt"]) > 0


def moved(layer, vectors, eps):
    """A hook that adds, at each place t, eps_t times the first-order change of the adapter's output along D."""
    d_a = torch.from_numpy(vectors[f"{layer.name}.lora_A.weight"][0]).reshape(layer.a.shape)
    d_b = torch.from_numpy(vectors[f"{layer.name}.lora_B.weight"][0]).reshape(layer.b.shape)

    def hook(_module, inputs, output):
        x = inputs[0]
        change = layer.scale * (x @ layer.a.T @ d_b.T + x @ d_a.T @ layer.b.T)
        return output + eps[None, :, None] * change

    return hook


def test_parts_are_the_same_where_answers_do_not_share_their_prompt(scored):
    passes, _, _ = scored
    worker = TokenWorker(passes.model, passes.reference(), str(passes.work / DIRECTIONS), list(METHODS))
    shared = worker.parts(2, [0, 3])
    setattr(worker.pairs.lm.model, packing.KNOWN, False)
    alone = worker.parts(2, [0, 3])
    assert shared.keys() == alone.keys()
    for side, values in shared.items():
        np.testing.assert_allclose(values, alone[side], rtol=1e-5, atol=1e-6 * spread(values))


def test_finished_shards_are_not_computed_again(scored, monkeypatch):
    passes, ids, scores = scored
    first = token_table(passes, ids, scores, VERTICALS, 2), side_scores(passes, METHODS)
    monkeypatch.setattr("preftrace.attribute.directions.PairModel", lambda **_: pytest.fail("the model was loaded"))
    assert token_table(passes, ids, scores, VERTICALS, 2) == first[0]
    for method, values in side_scores(passes, METHODS).items():
        np.testing.assert_array_equal(values, first[1][method])


def test_methods_without_directions_are_left_out(scored):
    passes, ids, scores = scored
    assert side_scores(passes, ["other"]) == {}
    assert token_table(passes, ids, {"other": scores["identity"]}, VERTICALS, 2).num_rows == 0


def test_the_ends_are_those_of_the_ranking():
    score = np.array([0.5, np.nan, -2.0, 3.0, -0.1, 0.0])
    assert ends(score, 2) == [3, 0, 2, 4] and ends(score, 0) == [] and ends(np.full(3, np.nan), 2) == []
    assert ends(np.array([1.0, 2.0]), 5) == [1, 0]


@pytest.mark.parametrize("text", ["plain words", "naïve café", "日本語 and 🙂 more", "ends in é", "a �� b"])
def test_pieces_join_to_the_text_and_a_character_is_never_torn(text):
    tokenizer = build_tokenizer()
    ids = tokenizer(text)["input_ids"]
    found = pieces(tokenizer, ids)
    assert len(found) == len(ids) and "".join(found) == text
    assert all(piece in text for piece in found)


def test_pieces_of_a_torn_character_do_not_hold_back_what_follows():
    tokenizer = build_tokenizer()
    ids = tokenizer("é")["input_ids"][:1] * 6 + tokenizer("abc")["input_ids"]
    found = pieces(tokenizer, ids)
    assert "".join(found) == tokenizer.decode(ids) and found[-3:][1:] == ["b", "c"]


def test_the_stage_keeps_tokens_by_default_and_sides_where_asked(tiny_run, tmp_path):
    usual = tiny_run.influence("dpo")
    frame, scores = usual.tokens(), usual.frame()
    assert not {"score_chosen", "score_rejected"} & set(scores.columns)
    shown = frame.groupby(["vertical", "method"]).pair_id.nunique()
    assert set(frame.method) == set(METHODS) and shown.max() == 6
    total = frame.groupby(["method", "vertical", "pair_id"]).part.sum()
    wanted = scores.set_index(["method", "vertical", "pair_id"]).score.loc[total.index]
    scale = wanted.abs().groupby(["method", "vertical"]).transform("max")
    assert ((total - wanted).abs() / scale).max() < 1e-4
    out, stage = tmp_path / "out", tiny_run.folder / "align" / "dpo"
    evaluations = find_evaluations(tiny_run.folder / "evaluate" / "dpo")
    config = AttributeConfig(sides=True, show_tokens=0, baselines=("length",))
    record = attribute_stage(stage, tiny_run.folder / "pairs", evaluations, out, config)
    apart = preftrace.InfluenceScores(record)
    both = apart.frame()
    own = both[both.method.isin(METHODS) & both.score.notna()]
    error = (own.score_chosen + own.score_rejected - own.score).abs()
    size = (
        own[["score_chosen", "score_rejected"]].abs().max(axis=1).groupby([own.vertical, own.method]).transform("max")
    )
    assert (error / size).max() < 1e-5 and (own.score_rejected.abs() / size).max() > 0.1
    rest = both[(both.method == "length") | both.score.isna()]
    assert len(rest) and rest.score_chosen.isna().all() and rest.score_rejected.isna().all()
    with pytest.raises(ArtifactError, match="show_tokens above 0"):
        apart.tokens()


def test_columns_of_sides_follow_method_and_vertical():
    import pyarrow as pa

    table = pa.table(
        {"method": ["m", "m", "m", "m", "base"], "vertical": ["a", "a", "b", "b", "a"], "score": [1.0, 2, 3, np.nan, 4]}
    )
    values = np.arange(8, dtype=float).reshape(2, 2, 2)
    found = add_sides(table, ["a", "b"], {"m": values}).to_pydict()
    np.testing.assert_array_equal(found["score_chosen"], [0, 4, 2, np.nan, np.nan])
    np.testing.assert_array_equal(found["score_rejected"], [1, 5, 3, np.nan, np.nan])


def test_a_long_side_goes_through_the_direction_first():
    rng = np.random.default_rng(0)
    for a, b in ((2, 5), (5, 2)):
        left, right, d = (torch.from_numpy(rng.normal(size=s)) for s in ((3, 4, a), (3, 4, b), (2, a, b)))
        wanted = torch.einsum("pta,wab,ptb->wpt", left, d, right)
        torch.testing.assert_close(tokens._products(left, d, right), wanted)
