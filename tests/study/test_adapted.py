"""Influence on a model that was tuned as a whole: against autograd, and what is declared, warned of and refused."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import torch

import preftrace
from preftrace import artifacts, models, progress
from preftrace.attribute import reading
from preftrace.attribute.queries import Draw, read_query
from preftrace.cli import main
from preftrace.errors import ArtifactError, ConfigError, DataError
from preftrace.models.losses import dpo_loss, sft_loss
from preftrace.report import write as write_report
from preftrace.study import adapted as stage
from tests.attribute.conftest import naive
from tests.conftest import build_model
from tests.models.test_difference import save, tune
from tests.tiny_study import snapshot

BETA = 0.3
VERTICALS = {"ethics": {"limit": 2, "max_new_tokens": 2}}
QUIET = {"baselines": (), "show_tokens": 0}
PAIRS = 8


def pairs_file(place):
    rows = [
        {"prompt": f"May I {i}?", "chosen": "yes " * (1 + i % 3) + "sir", "rejected": "no " * (1 + i % 4)}
        for i in range(PAIRS)
    ]
    path = place / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def home(tiny_folder, tmp_path_factory):
    """A folder with `adapted`, the whole adapter of a tiny model that DPO trained in full; not to be changed."""
    place = tmp_path_factory.mktemp("adapted")
    settings = {"adapter": {"method": "full"}, "beta": BETA, "batch_size": 4, "learning_rate": 1e-3}
    full = preftrace.align("dpo", pairs_file(place), place / "full", model=tiny_folder, **settings)
    preftrace.adapt(tiny_folder, full.folder, place / "adapted", rank=32, limit=2)
    return place


def score(home, out, loss="dpo", **options):
    settings = {"verticals": VERTICALS, **QUIET, **({"beta": BETA} if loss == "dpo" else {})}
    return preftrace.attribute_adapted(home / "adapted", pairs_file(home), out, loss, **{**settings, **options})


@pytest.fixture(scope="module")
def scored(home):
    return score(home, home / "dpo")


def pair_loss(lm, pair, loss):
    rows = models.encode_answers(lm.tokenizer, pair.prompt, [pair.chosen, pair.rejected], "raw", 1024)
    if loss == "sft":
        (chosen,) = models.encode_answers(lm.tokenizer, pair.prompt, [pair.chosen], "raw", 1024)
        return sft_loss(models.answer_logprobs(lm, [chosen]), torch.tensor([len(chosen.answer_ids)])).sum()
    values = models.answer_logprobs(lm, rows)
    with lm.model.disable_adapter():
        reference = torch.tensor(models.completion_logprobs(lm, rows)).to(values.dtype)
    return dpo_loss(values[:1], values[1:], reference[:1], reference[1:], BETA).sum()


def odds(lm, folder):
    """Mean log-odds of the good options."""
    query = read_query(folder, lm.tokenizer, "raw", Draw("metric", None, 0))
    parts = []
    for item in query.items:
        values, good = models.answer_logprobs(lm, item.rows), torch.tensor(item.weights) > 0
        parts.append(values[good].logsumexp(0) - values[~good].logsumexp(0))
    return torch.stack(parts).mean()


@pytest.mark.parametrize("loss", ["dpo", "sft"])
def test_scores_are_those_of_autograd_on_the_adapter_pair_by_pair(home, scored, tmp_path, loss):
    """One backward a pair, all gradients in memory; within 1e-4 of the largest (float32)."""
    found = (scored if loss == "dpo" else score(home, tmp_path / "out", loss)).record.folder.parents[1]
    frame = preftrace.InfluenceScores(artifacts.read_record(found / "attribute" / "adapted")).frame()
    lm = models.load(models.resolve_checkpoint(str(home / "adapted")))
    pairs = preftrace.load_pairs(pairs_file(home))
    v = naive(lm, lambda: odds(lm, found / "evaluate" / "adapted" / "ethics"))
    gradients = [naive(lm, lambda pair=pair: pair_loss(lm, pair, loss)) for pair in pairs]
    dot, full, n = np.zeros(len(pairs)), np.zeros(len(pairs)), len(pairs)
    for name, block in v.items():
        g = np.stack([gradient[name] for gradient in gradients])
        lam = 0.1 * np.mean(g**2)
        dot -= g @ block
        full -= g @ sum((block - (block @ row) / (lam + row @ row) * row) / (n * lam) for row in g)
    for method, wanted in (("identity", dot), ("datainf", full)):
        got = frame[frame.method == method].set_index("pair_id").score.loc[[pair.id for pair in pairs]].to_numpy()
        assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max() > 0, method


def test_the_records_say_that_loss_and_pairs_were_declared(home, scored):
    declared = artifacts.read_record(home / "dpo" / "align" / "adapted")
    adapted = artifacts.read_record(home / "adapted")
    assert declared.kind == "declared" and declared.config["loss"] == "dpo"
    assert declared.config["stage"] == {"max_length": 1024, "beta": BETA}
    assert declared.summary["pairs_used"] == PAIRS and declared.summary["pairs_unused"] == {}
    told = scored.record.summary["declared"]
    assert told["by_user"] == ["loss", "pairs"] and told["check"] == adapted.summary["check"]
    assert told["energy_kept"] == pytest.approx(1, abs=1e-5)
    assert scored.record.summary["loss"] == {"kind": "dpo", "max_length": 1024, "beta": BETA}
    assert models.read_checkpoint(declared.folder) == models.read_checkpoint(home / "adapted")


def test_done_again_it_computes_nothing_and_another_beta_scores_anew_on_the_same_evaluation(home, scored, tmp_path):
    shutil.copytree(home / "dpo", tmp_path / "out")
    before = snapshot(tmp_path / "out")
    assert score(home, tmp_path / "out").record.identity == scored.record.identity
    changed = {name for name, entry in snapshot(tmp_path / "out").items() if before.get(name) != entry}
    assert changed <= {"adapted.json"}
    other = score(home, tmp_path / "out", beta=3.0)
    assert other.record.identity != scored.record.identity
    after = snapshot(tmp_path / "out")
    assert all(after[name] == entry for name, entry in before.items() if name.startswith(("evaluate/", "pairs/")))
    assert not np.allclose(other.frame().score, scored.frame().score)


def test_a_killed_one_goes_on_to_the_same_scores(home, scored, tmp_path, monkeypatch):
    plain = stage.attribute_stage

    def killed(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "attribute_stage", killed)
    with pytest.raises(KeyboardInterrupt):
        score(home, tmp_path / "out")
    begun = snapshot(tmp_path / "out" / "evaluate")
    monkeypatch.setattr(stage, "attribute_stage", plain)
    found = score(home, tmp_path / "out")
    assert begun and snapshot(tmp_path / "out" / "evaluate") == begun
    np.testing.assert_array_equal(found.frame().score, scored.frame().score)


def test_the_store_and_the_comparison_with_the_base(home, tmp_path):
    """Every method but those along a training; the scores are found beside a store."""
    methods = ("identity", "datainf", "exact", "ekfac")
    found = score(home, tmp_path / "store", mode="store", methods=methods, projection=4)
    assert np.isfinite(found.frame().score).all() and set(found.frame().method) == set(methods)
    assert (tmp_path / "store" / "attribute" / "adapted.store").is_dir()
    assert reading.find_scores(tmp_path / "store").record == found.record
    compared = score(home, tmp_path / "margin", query="margin", methods=("identity",))
    assert {"before/ethics", "evaluate/ethics"} <= set(compared.record.inputs)
    base = preftrace.Evaluation.open(tmp_path / "margin" / "evaluate" / "base" / "ethics").record
    assert compared.record.inputs["before/ethics"] == base.content


def test_what_adapt_warned_of_is_said_again(tiny_folder, tmp_path, monkeypatch):
    tuned = save(tune(build_model(), only=lambda name: "_proj" in name), tmp_path / "tuned")
    record = preftrace.adapt(tiny_folder, tuned, tmp_path / "adapted", rank=1, limit=2)
    (warning,) = record.summary["warnings"]
    said = []
    monkeypatch.setattr(progress, "say", said.append)
    found = score(tmp_path, tmp_path / "out", limit=3, methods=("identity",))
    assert "does not reproduce the tuned model" in warning and "nats on average" in warning
    assert f"warning: {warning}" in said
    kept = f"keeps {record.summary['energy_kept']:.1%} of the squared change of its matrices"
    assert any("about base and adapter, not about the tuned model" in line and kept in line for line in said)
    assert found.record.summary["declared"]["warnings"] == [warning]


def test_pairs_that_are_too_long_do_not_count_and_are_counted(home, tmp_path):
    found = score(home, tmp_path / "out", "sft", max_length=13, methods=("identity",))
    summary = artifacts.read_record(tmp_path / "out" / "align" / "adapted").summary
    assert 0 < summary["pairs_used"] < PAIRS and found.record.summary["pairs"] == summary["pairs_used"]
    assert summary["pairs_unused"] == {"chosen answer too long": PAIRS - summary["pairs_used"]}


@pytest.mark.parametrize(
    ("loss", "options", "error", "told"),
    [
        ("reward", {}, ConfigError, "loss: `preftrace adapt` makes no adapter of a reward model"),
        ("orpo", {}, ConfigError, "loss: unknown loss 'orpo'; known: sft, dpo"),
        ("sft", {"beta": 0.1}, ConfigError, "beta belongs to dpo"),
        ("dpo", {"methods": ("ensemble",)}, ConfigError, "'ensemble' needs checkpoints .* adapted model has none"),
        ("dpo", {"verticals": {"ethiks": {}, "ethics": {"limit": 0}}}, ConfigError, "2 problems"),
        ("dpo", {"verticals": ["ethics"]}, ConfigError, "must be a mapping of names"),
        ("dpo", {"betta": 1}, ConfigError, "betta: unknown key"),
        ("dpo", {"attribute": {}}, ConfigError, "attribute: unknown key"),
        ("dpo", {"max_length": 4096}, ConfigError, "4096 is more than the 2048 positions"),
        ("dpo", {"max_length": 8}, DataError, "no pair can be used .* Raise max_length"),
    ],
)
def test_what_cannot_be_is_refused(home, tmp_path, loss, options, error, told):
    with pytest.raises(error, match=told):
        score(home, tmp_path / "out", loss, **options)


def test_another_base_is_refused_and_so_are_folders_of_others(home, tiny_folder, tmp_path):
    other = tmp_path / "run"
    artifacts.write_json(other / "run.json", {})
    with pytest.raises(ArtifactError, match=r"is not empty and no folder of an adapted model's influence"):
        score(home, other)
    assert [path.name for path in other.iterdir()] == ["run.json"]
    base = shutil.copytree(tiny_folder, tmp_path / "base")
    tuned = save(tune(build_model(), only=lambda name: "_proj" in name), tmp_path / "tuned")
    preftrace.adapt(base, tuned, tmp_path / "adapted", rank=2, limit=2)
    save(build_model(seed=5), base)
    with pytest.raises(ArtifactError, match=r"base is not what it was .* run `preftrace adapt` again"):
        score(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_report_says_who_declared_what_and_leaves_nothing_open(home, scored, tmp_path):
    shutil.copytree(home / "dpo", tmp_path / "out")
    text = write_report(tmp_path / "out").read_text()
    assert "Loss and pairs were declared by the user: no training recorded them." in text
    assert "could not be made" not in text and "not finished" not in text


def test_the_command_prints_what_attribute_prints(home, scored, tmp_path, monkeypatch, capsys):
    words = ["attribute", "adapted", str(home / "adapted"), "--pairs", pairs_file(home), "--loss", "dpo"]
    words += ["--beta", str(BETA), "--out", str(tmp_path / "out"), "--vertical", "ethics", "--top", "2", "--json"]
    words += ["--method", "identity", "--method", "datainf", "--set", "baselines=[]", "--set", "show_tokens=0"]
    words += ["--set", "ethics.limit=2", "--set", "ethics.max_new_tokens=2"]
    monkeypatch.setattr(sys, "argv", ["preftrace", *words])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert not end.value.code, said.err
    shown = json.loads(said.out)
    wanted = reading.extremes(scored, "ethics", 2)
    assert list(shown) == ["ethics"] and [row["pair_id"] for row in shown["ethics"]] == wanted.pair_id.tolist()
    assert all(row["prompt"] and row["chosen"] for row in shown["ethics"])
    assert [row["score"] for row in shown["ethics"]] == pytest.approx(wanted.score.tolist())
