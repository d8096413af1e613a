"""Influence on a policy through its reward model, and the queries that look back, against naive loops."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch

import preftrace
from preftrace import artifacts, models
from preftrace.attribute.capture import HEAD_NAME
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.influence import run as attribute_stage
from preftrace.attribute.queries import Draw, read_query
from preftrace.errors import ArtifactError, DataError
from preftrace.evaluate.compare import find_evaluations
from preftrace.models.lora import lora_layers, trained_head
from preftrace.models.losses import dpo_loss, reward_loss
from preftrace.models.packing import backbone
from preftrace.types import prompt_from_json
from tests.attribute.conftest import naive

STUDY = """\
name: tiny
model: {model}
preferences: {{source: starter, limit: 12}}
adapter: {{r: 2, alpha: 4}}
stages:
  sft: {{epochs: 1, batch_size: 4, learning_rate: 0.01}}
  reward: {{from: sft, epochs: 2, batch_size: 4, learning_rate: 0.01, centring: 0.01}}
  ppo: {{rollouts: 4, batch_size: 4, max_new_tokens: 6, learning_rate: 0.01, kl_coef: 0.2}}
  dpo: {{from: sft, beta: 0.1, epochs: 1, batch_size: 4, learning_rate: 0.01}}
verticals:
  toxicity: {{limit: 4, samples: 3, max_new_tokens: 6, batch_size: 2}}
  ethics: {{limit: 4, max_new_tokens: 6, batch_size: 2}}
  truthfulness: {{limit: 3, batch_size: 2}}
attribute: {{methods: [identity, datainf], stages: [ppo]}}
"""


@pytest.fixture(scope="module")
def run(tiny_folder, tmp_path_factory):
    """A finished run; toxicity's trust is replaced, since a tiny model's answers all have the same."""
    home = tmp_path_factory.mktemp("through")
    (home / "tiny.yaml").write_text(STUDY.format(model=tiny_folder))
    finished = preftrace.run(home / "tiny.yaml", home / "run")
    for stage, seed in (("sft", 1), ("ppo", 2), ("dpo", 3)):
        path = finished.folder / "evaluate" / stage / "toxicity" / "generations.parquet"
        table = artifacts.read_table(path)
        trust = np.random.default_rng(seed).random(table.num_rows).round(2)
        artifacts.write_table(path, table.set_column(table.column_names.index("trust"), "trust", [trust]))
    return finished


def scores(run, out, stage="ppo", baselines=(), **options):
    """`identity` scores, a column a vertical, and the record."""
    before = find_evaluations(run.folder / "evaluate" / "sft")
    record = attribute_stage(
        run.folder / "align" / stage,
        run.folder / "pairs",
        find_evaluations(run.folder / "evaluate" / stage),
        out,
        AttributeConfig(methods=("identity",), baselines=baselines, **options),
        before=before,
    )
    frame = artifacts.read_table(record.folder / "scores.parquet").to_pandas()
    identity = frame[frame.method == "identity"]
    return identity.pivot(index="pair_id", columns="vertical", values="score"), record


def gradient(rm, objective):
    """By autograd, over the adapter and the head."""
    head = trained_head(rm)
    named = {f"{la.name}.lora_{side}.weight": w for la in lora_layers(rm) for side, w in (("A", la.a), ("B", la.b))}
    named[HEAD_NAME] = head.weight
    for weight in named.values():
        weight.requires_grad_(True)
    found = torch.autograd.grad(objective(), list(named.values()))
    for weight in named.values():
        weight.requires_grad_(False)
    return np.concatenate([g.reshape(-1).double().numpy() for g in found])


@pytest.fixture(scope="module")
def rm(run):
    return models.load_reward(models.read_checkpoint(run.folder / "align" / "reward"))


@pytest.fixture(scope="module")
def pair_gradients(run, rm):
    """Pair id -> gradient of the reward stage's loss."""
    found = {}
    for pair in run.pairs():
        rows = models.encode_answers(rm.tokenizer, pair.prompt, [pair.chosen, pair.rejected], "raw", 512)

        def objective(rows=rows):
            better, worse = models.rewards(rm, rows[:1]), models.rewards(rm, rows[1:])
            return reward_loss(better, worse, torch.zeros(1), centring=0.01).sum()

        found[pair.id] = gradient(rm, objective)
    return found


def sampled(lm, sample):
    prompt = lm.tokenizer(sample.prompt)["input_ids"]
    return models.Encoded(tuple(prompt), tuple(sample.response_ids), False)


def assert_like(found, wanted):
    wanted = np.array([wanted[i] for i in found.index])
    assert np.abs(found.to_numpy() - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert np.abs(wanted).max() > 0


def test_the_study_attributes_ppo_through_its_reward_stage(run):
    record = run.influence("ppo").record
    summary = artifacts.read_json(run.folder / "align" / "ppo" / "record.json")["summary"]
    beta = 0.2 * summary["reward_scale"]
    assert summary["reward"] == "stage:../reward"
    assert record.summary["through"] == {"stage": "reward", "beta": pytest.approx(beta)}
    assert record.summary["loss"]["kind"] == "reward"
    frame = run.influence("ppo").frame()
    assert frame[(frame.vertical == "ethics") & frame.method.isin(["identity", "datainf"])].score.notna().all()
    assert frame[(frame.vertical == "truthfulness") & (frame.method == "bm25")].score.notna().all()


def test_covariance_and_reward_gap_equal_the_naive_loop(run, rm, pair_gradients, tmp_path):
    frame, record = scores(run, tmp_path / "out")
    beta = record.summary["through"]["beta"]
    samples = run.evaluation("ppo", "toxicity").frame()
    v = 0.0
    for _, mine in samples.groupby("item_id"):
        mean = mine.trust.mean()
        for sample in mine.itertuples():
            g = gradient(rm, lambda sample=sample: models.rewards(rm, [sampled(rm, sample)]).sum())
            v = v + (sample.trust - mean) / (len(mine) - 1) * g / beta / samples.item_id.nunique()
    assert record.summary["queries"]["toxicity"]["kind"] == "covariance"
    assert_like(frame.toxicity, {i: -g @ v for i, g in pair_gradients.items()})

    evaluation = run.evaluation("ppo", "ethics")
    prompts = evaluation.items().set_index("item_id").prompt_json
    v = 0.0
    for item_id, options in evaluation.options().groupby("item_id"):
        p = np.exp(options.logprob - options.logprob.max())
        for option, weight in zip(options.itertuples(), p, strict=True):
            share = weight / p[options.good == option.good].sum() * (1 if option.good else -1)
            row = models.encode(rm.tokenizer, prompt_from_json(prompts[item_id]), option.text, "raw")
            v = v + share * gradient(rm, lambda row=row: models.rewards(rm, [row]).sum()) / beta / len(prompts)
    assert record.summary["queries"]["ethics"]["kind"] == "reward-gap"
    assert_like(frame.ethics, {i: -g @ v for i, g in pair_gradients.items()})


@pytest.mark.parametrize("query", ["margin", "paper"])
def test_margins_of_rewards_equal_the_naive_loop(run, rm, pair_gradients, tmp_path, query):
    frame, record = scores(run, tmp_path / "out", query=query)
    new, old = (run.evaluation(stage, "toxicity").frame() for stage in ("ppo", "sft"))
    both = new.merge(old, on=["item_id", "sample"], suffixes=("_new", "_old"))
    v, total = 0.0, 0.0
    for _, row in both.iterrows():
        answers = [new[(new.item_id == row.item_id) & (new["sample"] == row["sample"])].iloc[0]]
        answers += [old[(old.item_id == row.item_id) & (old["sample"] == row["sample"])].iloc[0]]
        w = row.trust_new - row.trust_old

        def objective(answers=answers, w=w):
            d = models.rewards(rm, [sampled(rm, answers[0])]) - models.rewards(rm, [sampled(rm, answers[1])])
            return (w * d if query == "margin" else -w * torch.nn.functional.softplus(-d)).sum()

        v, total = v + gradient(rm, objective), total + abs(w)
    assert record.summary["queries"]["toxicity"] == {"items": len(both), "kind": query, "signal": True, "note": ""}
    assert_like(frame.toxicity, {i: -g @ v / total for i, g in pair_gradients.items()})


@pytest.mark.parametrize("query", ["margin", "paper"])
def test_margins_of_dpo_equal_the_naive_loop(run, tmp_path, query):
    """D of the paper's loss is beta times the log-ratio to the reference, as DPO's own."""
    frame, _ = scores(run, tmp_path / "out", stage="dpo", query=query)
    lm = models.load(run.checkpoint("dpo"))
    new, old = (run.evaluation(stage, "toxicity").frame().set_index(["item_id", "sample"]) for stage in ("dpo", "sft"))
    temperature = artifacts.read_json(run.folder / "evaluate/dpo/toxicity/record.json")["config"]["options"]
    v, total = {}, 0.0
    for key in new.index:
        rows = [sampled(lm, new.loc[key]), sampled(lm, old.loc[key])]
        w = new.loc[key].trust - old.loc[key].trust
        with lm.model.disable_adapter():
            reference = models.completion_logprobs(lm, rows, temperature=temperature["temperature"])

        def objective(rows=rows, w=w, reference=reference):
            d = models.answer_logprobs(lm, rows, temperature["temperature"]) - torch.tensor(reference).float()
            if query == "margin":
                return w * (d[0] - d[1])
            return -w * torch.nn.functional.softplus(-0.1 * (d[0] - d[1]))

        for name, g in naive(lm, objective).items():
            v[name] = v.get(name, 0.0) + g
        total += abs(w)
    wanted = {}
    for pair in run.pairs():
        rows = models.encode_answers(lm.tokenizer, pair.prompt, [pair.chosen, pair.rejected], "raw", 512)
        with lm.model.disable_adapter():
            ref = torch.tensor(models.completion_logprobs(lm, rows)).float()

        def loss(rows=rows, ref=ref):
            logps = models.answer_logprobs(lm, rows)
            return dpo_loss(logps[:1], logps[1:], ref[:1], ref[1:], 0.1).sum()

        wanted[pair.id] = -sum(g @ v[name] for name, g in naive(lm, loss).items()) / total
    assert_like(frame.toxicity, wanted)


@pytest.mark.parametrize("query", ["metric", "margin", "paper"])
def test_baselines_of_ppo_read_the_reward_models_states(run, rm, tmp_path, query):
    """Activation of the last layer by hand: what the head is given, mean over the answer, on the query's direction."""
    _, record = scores(run, tmp_path / "out", baselines=("embedding", "activation"), query=query, activation_layer=2)
    beta = record.summary["through"]["beta"]
    draw = Draw(query, None, 0, beta, 512)
    folders = [run.folder / "evaluate" / stage / "toxicity" for stage in ("ppo", "sft")]
    found = read_query(folders[0], rm.tokenizer, "raw", draw, folders[1])

    def mean(row):
        ids = torch.tensor([[*row.prompt_ids, *row.answer_ids]])
        with torch.no_grad():
            states = backbone(rm)(ids).last_hidden_state[0, len(row.prompt_ids) :]
        return states.double().mean(0).numpy()

    direction = sum(w * mean(row) for item in found.items for row, w in zip(item.rows, item.weights, strict=True))
    direction = direction / np.linalg.norm(direction)
    frame = artifacts.read_table(record.folder / "scores.parquet").to_pandas().query("vertical == 'toxicity'")
    activation = frame[frame.method == "activation"].set_index("pair_id").score
    for pair in run.pairs():
        rows = models.encode_answers(rm.tokenizer, pair.prompt, [pair.chosen, pair.rejected], "raw", 512)
        wanted = (mean(rows[0]) - mean(rows[1])) @ direction
        assert activation[pair.id] == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    assert frame[frame.method == "embedding"].score.notna().all()


def test_a_vertical_of_options_alone_compares_the_options_picked(run, tmp_path):
    """Truthfulness samples nothing: where no stage changed its pick there is no direction, and the record says so."""
    frame, record = scores(run, tmp_path / "out", query="margin")
    query = record.summary["queries"]["truthfulness"]
    assert query["items"] == 3
    assert query["signal"] == bool(frame.truthfulness.notna().all())
    assert query["signal"] or "no direction" in query["note"]


def picking(source, folder, goods):
    """A copy of an evaluation whose most probable option of some items is a good or a bad one; also those options."""
    shutil.copytree(source, folder)
    options = artifacts.read_table(source / "options.parquet").to_pandas()
    texts = []
    for item_id, good in goods.items():
        index = options[(options.item_id == item_id) & (options.good == good)].index[0]
        options.loc[index, "logprob"] = 0.0
        texts.append(options.text[index].strip())
    artifacts.write_table(folder / "options.parquet", pa.Table.from_pandas(options, preserve_index=False))
    return folder, texts


def test_a_changed_pick_is_a_new_answer_against_an_old_one(run, tmp_path):
    """One item's pick goes from a bad option to a good one, another's back: weights 1 and -1, new row first."""
    source = run.folder / "evaluate" / "ppo" / "truthfulness"
    first, second = artifacts.read_table(source / "items.parquet")["item_id"].to_pylist()[:2]
    now, new = picking(source, tmp_path / "now", {first: True, second: False})
    then, old = picking(source, tmp_path / "then", {first: False, second: True})
    tokenizer = models.load_tokenizer(run.checkpoint("ppo").model)
    query = read_query(now, tokenizer, "raw", Draw("margin", None, 0), then)
    found = {item.item_id: item for item in query.items}
    assert set(found) == {first, second} and (query.total, query.divisor) == (3, 2.0)
    assert found[first].weights == (1.0, -1.0) and found[second].weights == (-1.0, 1.0)
    for item_id, texts in zip((first, second), zip(new, old, strict=True), strict=True):
        assert tuple(tokenizer.decode(row.answer_ids).strip() for row in found[item_id].rows) == texts


def test_what_cannot_be_traced_is_said(run, tmp_path, tiny_folder):
    where = {"pairs": run.folder / "pairs", "evaluations": find_evaluations(run.folder / "evaluate" / "ppo")}
    with pytest.raises(ArtifactError, match="'reward' stage; influence is defined for"):
        attribute_stage(run.folder / "align" / "reward", out=tmp_path / "out", **where)
    with pytest.raises(DataError, match="compares ppo with the stage before, whose ethics is missing"):
        attribute_stage(
            run.folder / "align" / "ppo", out=tmp_path / "out", config=AttributeConfig(query="margin"), **where
        )
    rule = tmp_path / "rule.py"
    rule.write_text("def brevity(texts):\n    return [-float(len(t)) for t in texts]\n")
    settings = {"reward": f"python:{rule}:brevity", "rollouts": 4, "batch_size": 4, "max_new_tokens": 4, "epochs": 0.3}
    record = preftrace.align("ppo", "starter", tmp_path / "ppo", model=tiny_folder, limit=12, **settings)
    with pytest.raises(ArtifactError, match="not by a reward stage"):
        attribute_stage(record.folder, out=tmp_path / "out", **where)
    assert not (tmp_path / "out").exists()
