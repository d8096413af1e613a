"""The whole influence stage on a tiny run: against naive loops, finite differences, and itself made otherwise."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest
import torch

import preftrace
from preftrace import artifacts, models
from preftrace.attribute import passes
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.influence import run as attribute_stage
from preftrace.attribute.objectives import log_odds
from preftrace.attribute.queries import Draw, read_query
from preftrace.engines._base import Resources
from preftrace.errors import ArtifactError, DataError, ModelError
from preftrace.evaluate.compare import find_evaluations
from preftrace.models.lora import lora_layers
from preftrace.models.losses import dpo_loss
from preftrace.types import prompt_from_json
from tests.attribute.conftest import naive

CHOOSE = ("ethics", "stereotypes", "truthfulness")
BETA = 0.1
METHODS = ("identity", "datainf")


@pytest.fixture(scope="module")
def run(tiny_run):
    return tiny_run


@pytest.fixture(scope="module")
def lm(run):
    return models.load(run.checkpoint("dpo"))


@pytest.fixture(scope="module")
def rows(run, lm):
    """Encoded (chosen, rejected) of the pairs DPO trained on, and their reference log-probabilities."""
    encoded = [models.encode_answers(lm.tokenizer, p.prompt, [p.chosen, p.rejected], "raw", 512) for p in run.pairs()]
    with lm.model.disable_adapter():
        reference = [models.completion_logprobs(lm, pair) for pair in encoded]
    return encoded, reference


def pair_gradient(lm, pair, reference):
    def objective():
        logprobs = models.answer_logprobs(lm, pair)
        ref = torch.tensor(reference, dtype=logprobs.dtype)
        return dpo_loss(logprobs[0], logprobs[1], ref[0], ref[1], BETA)

    return naive(lm, objective)


def vertical_gradient(lm, run, vertical):
    """Gradient of the mean log-odds over the vertical's items, from the evaluation's own tables."""
    evaluation = run.evaluation("dpo", vertical)
    prompts = evaluation.items().set_index("item_id").prompt_json

    def objective():
        odds = []
        for item_id, options in evaluation.options().groupby("item_id"):
            prompt = prompt_from_json(prompts[item_id])
            encoded = [models.encode(lm.tokenizer, prompt, text, "raw", eos=False) for text in options.text]
            weights = [1.0 if good else -1.0 for good in options.good]
            odds.append(log_odds([0] * len(encoded), weights)(models.answer_logprobs(lm, encoded)))
        return torch.cat(odds).mean()

    return naive(lm, objective)


def test_identity_and_datainf_equal_the_naive_double_loop(run, lm, rows):
    """One autograd backward a pair, all gradients in memory, Python loops; within 1e-4 of the largest (float32)."""
    gradients = [pair_gradient(lm, pair, ref) for pair, ref in zip(*rows, strict=True)]
    frame = run.influence("dpo").frame()
    for vertical in CHOOSE:
        v = vertical_gradient(lm, run, vertical)
        n = len(gradients)
        dot, full = np.zeros(n), np.zeros(n)
        for name, block in v.items():
            g = np.stack([gradient[name] for gradient in gradients])
            lam = 0.1 * np.mean(g**2)
            hvp = sum((block - (block @ row) / (lam + row @ row) * row) / (n * lam) for row in g)
            dot -= g @ block
            full -= g @ hvp
        for method, wanted in (("identity", dot), ("datainf", full)):
            found = frame[(frame.vertical == vertical) & (frame.method == method)].score.to_numpy()
            assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max(), (vertical, method)


@pytest.mark.parametrize("vertical", CHOOSE)
def test_a_step_on_a_pair_moves_the_real_adapter_as_its_score_says(run, rows, vertical):
    """theta - epsilon grad loss_k changes the vertical's log-odds by epsilon x score_k (identity), sign included."""
    lm = models.load(run.checkpoint("dpo"), precision="float64")
    frame = run.influence("dpo").frame()
    scores = frame[(frame.vertical == vertical) & (frame.method == "identity")].set_index("pair_id").score
    query = read_query(run.folder / "evaluate" / "dpo" / vertical, lm.tokenizer, "raw", Draw("metric", None, 0))
    weights = {f"{la.name}.lora_{s}.weight": w for la in lora_layers(lm) for s, w in (("A", la.a), ("B", la.b))}

    def value():
        odds = [
            log_odds([0] * len(item.rows), item.weights)(torch.tensor(models.completion_logprobs(lm, item.rows)))
            for item in query.items
        ]
        return torch.cat(odds).mean().item()

    for k in (0, 5, 11):
        gradient = pair_gradient(lm, rows[0][k], rows[1][k])
        # Llama normalises in float32 whatever the weights are, so a smaller step would measure rounding.
        epsilon = 2e-3 / max(np.linalg.norm(np.concatenate(list(gradient.values()))), 1e-9)
        sides = []
        for sign in (1, -1):
            for name, weight in weights.items():
                weight.data -= sign * epsilon * torch.from_numpy(gradient[name]).reshape(weight.shape)
            sides.append(value())
            for name, weight in weights.items():
                weight.data += sign * epsilon * torch.from_numpy(gradient[name]).reshape(weight.shape)
        assert (sides[0] - sides[1]) / (2 * epsilon) == pytest.approx(scores.iloc[k], rel=2e-2, abs=1e-5)


def again(run, out, stage="dpo", resources=None, **options):
    evaluations = find_evaluations(run.folder / "evaluate" / stage)
    config = AttributeConfig(**options)
    place = run.folder / "align" / stage
    record = attribute_stage(place, run.folder / "pairs", evaluations, out, config, resources=resources)
    return artifacts.read_table(record.folder / "scores.parquet").to_pandas()


def test_recomputing_gradients_gives_the_kept_ones_scores(run, tmp_path):
    kept = run.influence("dpo").frame()
    np.testing.assert_array_equal(again(run, tmp_path / "a", cache_gb=0).score, kept.score)


def test_batch_size_does_not_matter(run, tmp_path):
    one = again(run, tmp_path / "a", batch_tokens=1)
    frame = run.influence("dpo").frame()
    scale = frame.groupby(["vertical", "method"]).score.transform(lambda s: s.abs().max())
    assert ((one.score - frame.score).abs() / scale).max() < 1e-4


@pytest.mark.integration
def test_two_workers_give_the_scores_of_one(run, tmp_path):
    two = again(run, tmp_path / "a", resources=Resources(2))
    np.testing.assert_array_equal(two.score, run.influence("dpo").frame().score)


def test_sft_is_attributed_too(run):
    frame = run.influence("sft").frame()
    assert list(dict.fromkeys(frame.method)) == ["identity", "datainf", "length", "random", "bm25"]
    assert frame[(frame.vertical == "ethics") & frame.method.isin(METHODS)].score.notna().all()


def silence(run, out):
    """A copy of the run's evaluations in which every sampled answer has the same trust."""
    for vertical in ("toxicity", "privacy"):
        shutil.copytree(run.folder / "evaluate" / "dpo" / vertical, out / vertical)
        table = artifacts.read_table(out / vertical / "generations.parquet").to_pandas().assign(trust=1.0)
        artifacts.write_table(out / vertical / "generations.parquet", pa.Table.from_pandas(table, preserve_index=False))
    return {vertical: out / vertical for vertical in ("toxicity", "privacy")}


def test_a_query_without_signal_is_missing_not_zero(run, tmp_path):
    silent = silence(run, tmp_path / "same")
    evaluations = {**silent, "ethics": run.folder / "evaluate" / "dpo" / "ethics"}
    stage, pairs = run.folder / "align" / "dpo", run.folder / "pairs"
    record = attribute_stage(stage, pairs, evaluations, tmp_path / "out")
    frame = artifacts.read_table(record.folder / "scores.parquet").to_pandas()
    for name in silent:
        assert "same trust" in record.summary["queries"][name]["note"]
        assert frame[frame.vertical == name].score.isna().all()
        assert frame[frame.vertical == name]["rank"].isna().all()
    assert frame[(frame.vertical == "ethics") & frame.method.isin(METHODS)].score.notna().all()


def test_no_vertical_with_signal_is_a_finished_stage_without_scores(run, tmp_path):
    record = attribute_stage(
        run.folder / "align" / "dpo", run.folder / "pairs", silence(run, tmp_path / "same"), tmp_path / "out"
    )
    frame = artifacts.read_table(record.folder / "scores.parquet").to_pandas()
    assert frame.score.isna().all() and len(frame) == 2 * 5 * 12


def test_a_raised_method_version_does_the_stage_again(run, tmp_path, monkeypatch):
    before = run.influence("dpo").record.identity
    assert preftrace.attribute(run, "dpo").record.identity == before
    monkeypatch.setattr("preftrace.attribute.methods.datainf.VERSION", 99)
    out = tmp_path / "out"
    assert preftrace.attribute(run, "dpo", out=out).record.identity != before


def test_a_pair_without_a_finite_gradient_is_missing_and_takes_no_part(run, tmp_path, monkeypatch):
    """One pair's gradient is NaN: its scores are, the others' are those of a set that lacks it, and it is counted."""
    from preftrace.attribute import pair_model

    real = pair_model.PairModel.gradients

    def broken(self, start, stop, *rest, **named):
        for batch, gradients in real(self, start, stop, *rest, **named):
            for position, i in enumerate(batch):
                if start + i == 3:
                    for value in gradients.values():
                        value[position] = float("nan")
            yield batch, gradients

    monkeypatch.setattr(pair_model.PairModel, "gradients", broken)
    frame = again(run, tmp_path / "a", baselines=())
    whole = run.influence("dpo").frame()
    whole = whole[whole.method.isin(METHODS)]
    missing = run.pairs()[3].id
    assert frame[(frame.pair_id == missing)].score.isna().all()
    rest = frame[(frame.pair_id != missing) & frame.vertical.isin(CHOOSE)]
    assert rest.score.notna().all()
    same = whole[(whole.pair_id != missing) & whole.vertical.isin(CHOOSE)]
    identity = rest.method == "identity"
    np.testing.assert_array_equal(rest[identity].score, same[identity.to_numpy()].score)
    assert artifacts.read_json(tmp_path / "a" / "record.json")["summary"]["missing"] == 1


def test_a_query_without_a_finite_gradient_is_said_and_hides_no_other(run, tmp_path, monkeypatch):
    """As one that overflows in a low precision: it made every score of its vertical NaN, and nothing said so."""
    start, work = passes.QueryWorker.__init__, passes.QueryWorker.run

    def told(self, **given):
        start(self, **given)
        self.broken = given["evaluations"][0].endswith("ethics")

    def overflows(self, shard):
        found = work(self, shard)["query"]
        return {"query": {name: np.full_like(g, np.inf) if self.broken else g for name, g in found.items()}}

    monkeypatch.setattr(passes.QueryWorker, "__init__", told)
    monkeypatch.setattr(passes.QueryWorker, "run", overflows)
    frame = again(run, tmp_path / "a", mode="store", methods=("exact",), query_items=2)
    assert frame[frame.vertical == "ethics"].score.isna().all()
    assert frame[frame.vertical == "stereotypes"].score.notna().all()
    said = artifacts.read_json(tmp_path / "a" / "record.json")["summary"]["queries"]["ethics"]
    assert not said["signal"] and "not finite in precision" in said["note"]


def test_log_odds_query_uses_the_options_of_privacy(run, tmp_path):
    frame = again(run, tmp_path / "a", query="log-odds")
    assert frame[frame.vertical == "privacy"].score.notna().all()


def test_query_items_draws_the_same_items_for_a_seed(run, lm):
    folder = run.folder / "evaluate" / "dpo" / "ethics"
    drawn = [read_query(folder, lm.tokenizer, "raw", Draw("metric", 2, seed)) for seed in (0, 0, 1, 2, 3)]
    ids = [{item.item_id for item in query.items} for query in drawn]
    assert ids[0] == ids[1] and len(ids[0]) == 2
    assert any(ids[0] != other for other in ids[2:])


def test_effect_of_removal_and_ranks_are_stated(run):
    frame = run.influence("dpo").frame()
    one = frame[(frame.vertical == "ethics") & (frame.method == "datainf")]
    np.testing.assert_allclose(one.effect_of_removal, -one.score / len(one))
    assert one.sort_values("score", ascending=False)["rank"].tolist() == [*range(1, len(one) + 1)]
    worst = run.influence("dpo").top("ethics", 3, method="datainf")
    assert worst.score.tolist() == sorted(one.score)[:3]
    assert math.isclose(one.z.mean(), 0, abs_tol=1e-9)


def test_a_folder_that_is_no_stage_is_named(run, tmp_path):
    with pytest.raises(ArtifactError, match="not a finished stage"):
        attribute_stage(tmp_path, run.folder / "pairs", {"x": tmp_path}, tmp_path / "out")
    with pytest.raises(ArtifactError, match="'pairs' stage"):
        attribute_stage(run.folder / "pairs", run.folder / "pairs", {"x": tmp_path}, tmp_path / "out")
    with pytest.raises(DataError, match="no evaluation"):
        attribute_stage(run.folder / "align" / "dpo", run.folder / "pairs", {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_stage_of_full_fine_tuning_is_refused_with_the_reason(run, tiny_folder, tmp_path):
    stage = preftrace.align(
        "sft", "starter", tmp_path / "full", model=tiny_folder, limit=4, adapter={"method": "full"}, learning_rate=1e-4
    )
    evaluations = find_evaluations(run.folder / "evaluate" / "sft")
    with pytest.raises(ModelError, match=r"adapter\.method lora"):
        attribute_stage(stage.folder, tmp_path / "full-pairs", evaluations, tmp_path / "out")


def test_the_checkpoint_is_the_one_that_was_trained(run):
    chain = run.checkpoint("dpo")
    assert [path.rsplit("/", 2)[-2] for path in chain.adapters] == ["sft", "dpo"]
    assert asdict(chain)["model"].endswith("tiny")
