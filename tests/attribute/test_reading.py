"""`attribute show` and `layers` read what a run holds, in any of its folders, and change nothing."""

from __future__ import annotations

import json
import shutil
import sys

import pandas as pd
import pytest

from preftrace import artifacts
from preftrace.attribute import reading
from preftrace.cli import main
from preftrace.errors import ArtifactError, ConfigError
from tests.tiny_study import snapshot


def attribute(monkeypatch, capsys, *words):
    """Standard output of `preftrace attribute ...`."""
    monkeypatch.setattr(sys, "argv", ["preftrace", "attribute", *map(str, words)])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert not end.value.code, said.err
    return said.out


def test_show_gives_the_pairs_that_harm_most_worst_first_with_their_texts(tiny_run, monkeypatch, capsys):
    before = snapshot(tiny_run.folder)
    words = ("show", tiny_run.folder, "--stage", "dpo", "--vertical", "ethics", "--top", 3, "--json")
    (found,) = json.loads(attribute(monkeypatch, capsys, *words)).values()
    scores = tiny_run.influence("dpo").frame()
    scores = scores[(scores.vertical == "ethics") & (scores.method == "datainf")].sort_values("score")
    assert [row["pair_id"] for row in found] == scores.pair_id.head(3).tolist()
    texts = {pair.id: (pair.chosen, pair.rejected) for pair in tiny_run.pairs()}
    assert all((row["chosen"], row["rejected"]) == texts[row["pair_id"]] and row["prompt"] for row in found)
    assert snapshot(tiny_run.folder) == before


def test_show_helpful_by_another_method_from_the_stages_own_folder(tiny_run, monkeypatch, capsys):
    folder = tiny_run.folder / "attribute" / "sft"
    words = ("show", folder, "--helpful", "--method", "length", "--top", 1, "--json")
    found = json.loads(attribute(monkeypatch, capsys, *words))
    assert set(found) == set(tiny_run.influence("sft").record.summary["verticals"])
    scores = tiny_run.influence("sft").frame()
    best = scores[(scores.vertical == "ethics") & (scores.method == "length")].score.max()
    assert found["ethics"][0]["score"] == pytest.approx(best) and found["ethics"][0]["chosen"]


def test_show_prints_ids_whole_and_writes_a_table(tiny_run, tmp_path, monkeypatch, capsys):
    words = ("show", tiny_run.folder, "--stage", "dpo", "--vertical", "ethics", "--top", 2, "--csv", tmp_path / "t.csv")
    said = attribute(monkeypatch, capsys, *words)
    table = pd.read_csv(tmp_path / "t.csv")
    assert len(table) == 2 and set(reading.TEXTS) | {"score", "z", "effect_of_removal"} <= set(table.columns)
    assert all(pair_id in said for pair_id in table.pair_id) and "pairs that harm most" in said


def test_control_characters_and_markup_of_texts_are_not_obeyed(tiny_run, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    shutil.copytree(tiny_run.folder, run)
    path = run / "pairs" / "pairs.parquet"
    table = artifacts.read_table(path)
    hostile = ["\x1b[31mred\x07 [bold]loud[/bold]"] * table.num_rows
    artifacts.write_table(path, table.set_column(table.column_names.index("chosen"), "chosen", [hostile]))
    said = attribute(monkeypatch, capsys, "show", run, "--stage", "dpo", "--vertical", "ethics", "--top", 1)
    assert "\x1b" not in said and "\x07" not in said and "[bold]" in said


def test_a_baseline_that_says_nothing_of_removal_shows_a_dash(tiny_run, monkeypatch, capsys):
    words = ("show", tiny_run.folder, "--stage", "dpo", "--vertical", "ethics", "--method", "length", "--top", 1)
    said = attribute(monkeypatch, capsys, *words)
    assert "nan" not in said.lower() and " - " in said


def test_a_stage_without_a_runs_pairs_shows_ids_alone(tiny_run, tmp_path):
    shutil.copytree(tiny_run.folder / "attribute" / "dpo", tmp_path / "a" / "b" / "dpo")
    scores = reading.find_scores(tmp_path / "a" / "b" / "dpo")
    frame = reading.with_texts(scores, scores.top("ethics", 2))
    assert (frame.prompt == "").all() and frame.pair_id.notna().all()


def test_the_command_without_a_word_still_scores(tiny_run, monkeypatch, capsys):
    options, places = ("--vertical", "ethics", "--top", 1, "--json"), (tiny_run.folder, "dpo")
    plain = attribute(monkeypatch, capsys, *places, *options)
    options_first = attribute(monkeypatch, capsys, *options, *places)
    named = attribute(monkeypatch, capsys, "score", *places, *options)
    assert plain == options_first == named and len(json.loads(plain)["ethics"]) == 2
    assert "layers" in attribute(monkeypatch, capsys, "--help")
    assert "STAGE" in attribute(monkeypatch, capsys, "score", "--help")


def test_layers_are_means_over_the_pairs_or_one_pairs_own(tiny_run, monkeypatch, capsys):
    words = ("layers", tiny_run.folder, "--stage", "dpo", "--vertical", "ethics", "--method", "identity", "--json")
    (rows,) = json.loads(attribute(monkeypatch, capsys, *words)).values()
    layers = artifacts.read_table(tiny_run.folder / "attribute" / "dpo" / "layers.parquet").to_pandas()
    layers = layers[(layers.vertical == "ethics") & (layers.method == "identity")]
    assert [row["layer"] for row in rows] == ["0", "1"] and all(row["pairs"] == 12 for row in rows)
    for row in rows:
        mine = layers[layers.layer == row["layer"]]
        assert row["size"] == pytest.approx(mine.share.abs().mean(), rel=1e-5)
        assert row["contribution"] == pytest.approx(mine.contribution.mean(), rel=1e-5)
    assert sum(row["size"] for row in rows) == pytest.approx(1, abs=1e-5)
    one = layers.pair_id.iloc[0]
    (own,) = json.loads(attribute(monkeypatch, capsys, *words, "--pair", one)).values()
    score = tiny_run.influence("dpo").frame().query("vertical == 'ethics' and method == 'identity'")
    assert sum(row["contribution"] for row in own) == pytest.approx(score.score.iloc[0], rel=1e-4)


def test_what_is_not_there_is_named_with_what_is(tiny_run, tmp_path):
    with pytest.raises(ArtifactError, match=r"more than one stage; name one with --stage: dpo, sft"):
        reading.find_scores(tiny_run.folder)
    with pytest.raises(ArtifactError, match=r"no influence of 'ppo'.*dpo, sft"):
        reading.find_scores(tiny_run.folder, "ppo")
    scores = reading.find_scores(tiny_run.folder, "dpo")
    with pytest.raises(ConfigError, match=r"by 'magic'.*identity, datainf, length"):
        reading.method_of(scores, "magic")
    with pytest.raises(ConfigError, match=r"on 'x'.*ethics"):
        reading.verticals_of(scores, "x")
    with pytest.raises(ConfigError, match=r"no layers were kept of pair 'p'"):
        reading.layer_shares(scores, "ethics", "identity", "p")
    with pytest.raises(ConfigError, match=r"no layers were kept of ethics by length"):
        reading.layer_shares(scores, "ethics", "length")


def test_a_stage_of_an_earlier_version_has_no_layers_and_says_so(tiny_run, tmp_path):
    old = tmp_path / "dpo"
    shutil.copytree(tiny_run.folder / "attribute" / "dpo", old)
    record = artifacts.read_json(old / "record.json")
    del record["outputs"]["layers.parquet"]
    artifacts.write_json(old / "record.json", record)
    (old / "layers.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"has no layers\.parquet: it was made by an earlier version"):
        reading.layer_shares(reading.find_scores(old), "ethics", "identity")
