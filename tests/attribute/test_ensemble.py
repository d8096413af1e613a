"""Influence along a training, from a study file and from the API, against naive loops over the checkpoints."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch

import preftrace
from preftrace import artifacts, models
from preftrace.attribute.capture import HEAD_NAME, row_values
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.influence import run as attribute_stage
from preftrace.attribute.methods.ensemble import weights
from preftrace.attribute.objectives import OBJECTIVES
from preftrace.attribute.pair_model import PairModel
from preftrace.attribute.queries import Draw, read_query
from preftrace.errors import ConfigError
from preftrace.evaluate.compare import find_evaluations
from preftrace.models.kept import CURVES
from preftrace.models.lora import lora_layers, trained_head
from preftrace.models.losses import dpo_loss, reward_loss, sft_loss

STUDY = """\
name: tiny
model: {model}
preferences: {{source: starter, limit: 12}}
adapter: {{r: 2, alpha: 4}}
stages:
  sft: {{batch_size: 4, learning_rate: 0.01, warmup: 0, keep_checkpoints: 1}}
  reward: {{from: sft, batch_size: 4, learning_rate: 0.01, keep_checkpoints: 2}}
  ppo: {{rollouts: 4, batch_size: 4, max_new_tokens: 6, learning_rate: 0.01, kl_coef: 0.2}}
  dpo: {{from: sft, beta: 0.1, batch_size: 4, learning_rate: 0.01, warmup: 0, keep_checkpoints: 2}}
verticals:
  ethics: {{limit: 4, max_new_tokens: 6, batch_size: 2}}
attribute: {{methods: [identity, datainf, ensemble], baselines: [], show_tokens: 0}}
"""


@pytest.fixture(scope="module")
def run(tiny_folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("along")
    (home / "tiny.yaml").write_text(STUDY.format(model=tiny_folder))
    return preftrace.run(home / "tiny.yaml", home / "run")


def table(run, out, stage="dpo", place=None, precision="auto", **options):
    """Scores, a column a method, and the record."""
    folder = (place or run.folder / "align") / stage
    evaluations = find_evaluations(run.folder / "evaluate" / stage)
    config = AttributeConfig(baselines=(), show_tokens=0, **options)
    record = attribute_stage(folder, run.folder / "pairs", evaluations, out, config, precision=precision)
    frame = artifacts.read_table(record.folder / "scores.parquet").to_pandas()
    return frame.pivot(index="pair_id", columns="method", values="score"), record


def gradient(lm, objective):
    """By autograd, over the adapter and, of a reward model, the head; all in one."""
    weight = {f"{la.name}.{side}": w for la in lora_layers(lm) for side, w in (("A", la.a), ("B", la.b))}
    head = trained_head(lm)
    weight |= {} if head is None else {HEAD_NAME: head.weight}
    for each in weight.values():
        each.requires_grad_(True)
    found = torch.autograd.grad(objective(), list(weight.values()))
    return np.concatenate([g.reshape(-1).double().numpy() for g in found])


def loss(lm, kind, pair):
    """A pair's loss, written out."""
    rows = models.encode_answers(lm.tokenizer, pair.prompt, [pair.chosen, pair.rejected], "raw", 512)
    if kind == "reward":
        r = models.rewards(lm, rows)
        return reward_loss(r[:1], r[1:], torch.zeros(1)).sum()
    values = models.answer_logprobs(lm, rows)
    if kind == "sft":
        return sft_loss(values[:1], torch.tensor([len(rows[0].answer_ids)])).sum()
    with lm.model.disable_adapter():
        reference = torch.tensor(models.completion_logprobs(lm, rows)).to(values.dtype)
    return dpo_loss(values[:1], values[1:], reference[:1], reference[1:], 0.1).sum()


def measure(lm, query):
    """A vertical's query at a model."""
    parts = [
        OBJECTIVES[query.kind]([0] * len(item.rows), item.weights)(row_values(lm, item.rows)).sum()
        for item in query.items
    ]
    return torch.stack(parts).sum() / query.divisor


@pytest.mark.parametrize(("stage", "kind"), [("sft", "sft"), ("dpo", "dpo"), ("ppo", "reward")])
def test_it_equals_a_loop_over_the_checkpoints_by_autograd(run, tmp_path, stage, kind):
    """Every checkpoint loaded by itself, one backward a pair and one for the query, in float64; within 1e-5."""
    found, record = table(run, tmp_path / "out", stage, precision="float64", methods=("ensemble",))
    beta = (record.summary["through"] or {}).get("beta")
    kept = models.read_kept(run.folder / "align" / kind)
    assert len(kept) == (2 if kind == "sft" else 3)
    curve = artifacts.read_table(run.folder / "align" / kind / CURVES)["learning_rate"].to_pylist()
    ends = [0, *(k.step for k in kept)]
    wanted = dict.fromkeys((pair.id for pair in run.pairs()), 0.0)
    for i, (_, _, checkpoint) in enumerate(kept):
        load = models.load_reward if kind == "reward" else models.load
        lm = load(checkpoint, precision="float64")
        most = None if beta is None else 512
        query = read_query(
            run.folder / "evaluate" / stage / "ethics", lm.tokenizer, "raw", Draw("metric", None, 0, beta, most)
        )
        v = gradient(lm, lambda lm=lm, query=query: measure(lm, query))
        for pair in run.pairs():
            g = gradient(lm, lambda lm=lm, pair=pair: loss(lm, kind, pair))
            wanted[pair.id] -= sum(curve[ends[i] : ends[i + 1]]) / sum(curve) * (g @ v)
    size = max(abs(value) for value in wanted.values())
    assert size > 0
    assert all(abs(found.ensemble[i] - value) <= 1e-5 * size for i, value in wanted.items())


def forgetting(run, out, *stages):
    """The run's stages, copied; some of them as if they had kept nothing."""
    shutil.copytree(run.folder / "align", out)
    for stage in stages:
        shutil.rmtree(out / stage / "checkpoints")
        record = artifacts.read_json(out / stage / "record.json")
        record["outputs"] = {k: v for k, v in record["outputs"].items() if not k.startswith("checkpoints")}
        artifacts.write_json(out / stage / "record.json", record)
    return out


def with_one_kept(run, out, rates):
    """The run's stages, copied, DPO with one kept checkpoint that is its finished model once more."""
    forgetting(run, out, "dpo")
    end = models.read_checkpoint(out / "dpo")
    models.write_checkpoint(out / "dpo" / "checkpoints" / "1", end, within=out)
    artifacts.write_table(out / "dpo" / CURVES, pa.table({"step": list(rates), "learning_rate": list(rates.values())}))
    return out


def test_one_checkpoint_that_is_the_finished_model_gives_identity(run, tmp_path):
    place = with_one_kept(run, tmp_path / "align", {1: 0.3, 2: 0.1})
    found, _ = table(run, tmp_path / "out", place=place, methods=("identity", "ensemble"))
    np.testing.assert_allclose(found.ensemble, found.identity, rtol=1e-9)


def test_a_checkpoint_of_rate_zero_has_no_part(run, tmp_path, monkeypatch):
    """A warm-up's first step: its model is not even run."""
    place = with_one_kept(run, tmp_path / "align", {1: 0.0, 2: 0.1})
    loaded = []
    plain = PairModel.__init__
    monkeypatch.setattr(PairModel, "__init__", lambda self, **model: loaded.append(model) or plain(self, **model))
    found, _ = table(run, tmp_path / "out", place=place, methods=("identity", "ensemble"))
    np.testing.assert_array_equal(found.ensemble, found.identity)
    assert loaded and all("checkpoints" not in model["checkpoint"]["adapters"][-1] for model in loaded)


def test_the_weights_by_hand():
    np.testing.assert_allclose(weights([3e-4, 1e-4]), [0.75, 0.25])
    np.testing.assert_allclose(weights([0.0, 2.0, 2.0]), [0.0, 0.5, 0.5])


def test_a_study_and_the_api_give_it_beside_the_others(run):
    """The others' scores, and what the record says of lambda, are those of a study without it."""
    for stage in ("sft", "ppo", "dpo"):
        frame = run.influence(stage).frame()
        assert list(dict.fromkeys(frame.method)) == ["identity", "datainf", "ensemble"]
        assert frame.score.notna().all()
        wide = frame.pivot(index="pair_id", columns="method", values="score")
        assert not np.allclose(wide.ensemble, wide.identity, rtol=1e-3)
    plain = preftrace.attribute(run, "dpo", methods=("identity", "datainf"))
    both, usual = run.influence("dpo"), plain.frame()
    frame = both.frame()
    np.testing.assert_array_equal(frame[frame.method != "ensemble"].score, usual.score)
    assert both.record.summary["lambda"] == plain.record.summary["lambda"]
    alone = preftrace.attribute(run, "dpo", methods=("ensemble",))
    np.testing.assert_array_equal(alone.frame().score, frame[frame.method == "ensemble"].score)
    assert set(alone.frame().method) == {"ensemble"}
    assert not artifacts.read_table(alone.record.folder / "layers.parquet").num_rows


def test_a_stopped_run_goes_on_where_it_was(run, tmp_path, monkeypatch):
    """Stopped in the very last shard of pairs: the second run computes that one alone, and ends with the same bytes."""

    class Stop(Exception):
        pass

    calls, limit = [], [10**9]
    plain = PairModel.gradients

    def counted(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == limit[0]:
            raise Stop
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(PairModel, "gradients", counted)
    methods = {"methods": ("identity", "ensemble")}
    _, whole = table(run, tmp_path / "whole", **methods)
    limit[0] = len(calls)
    calls.clear()
    with pytest.raises(Stop):
        table(run, tmp_path / "torn", **methods)
    calls.clear()
    _, torn = table(run, tmp_path / "torn", **methods)
    assert len(calls) == 1
    assert torn.outputs == whole.outputs
    assert not list(torn.folder.glob("_*"))


def test_a_stage_that_kept_nothing_is_told_which_setting_to_set(run, tmp_path):
    place = forgetting(run, tmp_path / "align", "dpo", "reward")
    for stage, source in (("dpo", "dpo"), ("ppo", "reward")):
        with pytest.raises(ConfigError, match=f"'ensemble' needs checkpoints .* '{source}'.*keep_checkpoints"):
            table(run, tmp_path / "out", stage, place=place, methods=("ensemble",))
    assert not (tmp_path / "out").exists()


def test_beside_a_store_it_is_the_same(run, tmp_path):
    """The store's own identity is projected; the average is of whole gradients in either mode."""
    stored, _ = table(run, tmp_path / "out", mode="store", projection=2, methods=("identity", "ensemble"))
    frame = run.influence("dpo").frame()
    streamed = frame[frame.method == "ensemble"].set_index("pair_id").score
    np.testing.assert_allclose(stored.ensemble, streamed[stored.index], rtol=1e-5, atol=1e-7)
