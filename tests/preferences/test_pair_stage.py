"""The stage on disk: what it holds, when it is made again, and that it reads back as it was."""

import gzip
import json
import shutil

import pytest

from preftrace import artifacts
from preftrace.errors import ArtifactError, DataError
from preftrace.preferences import PreferencesConfig, load_pairs, pairs_to_table, prepare, read_pairs, table_to_pairs

TURNS = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "q\u2028é"}]


def transcripts(n, more=""):
    start = f"\n\nHuman: q{n}\n\nAssistant:"
    return {"chosen": f"{start} yes{more}", "rejected": f"{start} no", "n": n}


@pytest.fixture
def data(tmp_path):
    """Thirty transcripts: one fork, one empty answer, one duplicate, one that ends on a human turn."""
    rows = [transcripts(n) for n in range(26)]
    rows.append(transcripts(26, "\n\nHuman: more\n\nAssistant: sure"))
    rows.append({**transcripts(27), "rejected": "\n\nHuman: q27\n\nAssistant:"})
    rows.append(transcripts(0))
    rows.append(transcripts(29, "\n\nHuman: bye"))
    path = tmp_path / "hh.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(path, **settings):
    return PreferencesConfig(source="hh", path=str(path), **settings)


def test_the_record_counts_every_row(data, tmp_path):
    record = prepare(config(data, holdout=0.3), 0, tmp_path / "pairs")
    summary = record.summary
    assert summary["read"] == 30
    assert summary["flags"] == {"malformed": 1, "fork": 2, "empty": 1, "duplicate": 1}
    assert summary["dropped"] == {"malformed": 1, "fork": 1, "empty": 1, "duplicate": 1}
    assert summary["kept"] == 26 == summary["train"] + summary["holdout"]
    assert summary["holdout"] > 0
    assert record.kind == "pairs"
    assert set(record.outputs) == {"pairs.parquet", "dropped.parquet"}


def test_the_tables_have_the_columns_that_others_read(data, tmp_path):
    folder = prepare(config(data, holdout=0.3), 0, tmp_path / "pairs").folder
    shared = ["id", "prompt", "prompt_json", "chosen", "rejected", "source", "row", "flags", "meta"]
    pairs = artifacts.read_table(folder / "pairs.parquet")
    dropped = artifacts.read_table(folder / "dropped.parquet")
    assert pairs.column_names == [*shared, "split"]
    assert dropped.column_names == [*shared, "reason"]
    assert pairs["prompt"][3].as_py() == "\n\nHuman: q3\n\nAssistant:"
    assert set(pairs["split"].to_pylist()) == {"train", "holdout"}
    assert list(zip(dropped["row"].to_pylist(), dropped["reason"].to_pylist(), strict=True)) == [
        (26, "fork"),
        (27, "empty"),
        (28, "duplicate"),
        (29, "malformed"),
    ]


def test_pairs_read_back_are_the_pairs_that_were_kept(data, tmp_path):
    settings = config(data, holdout=0.3)
    folder = prepare(settings, 0, tmp_path / "pairs").folder
    assert load_pairs(folder) == read_pairs(settings)[:26]
    train, holdout = load_pairs(folder, "train"), load_pairs(folder, "holdout")
    assert sorted([*train, *holdout], key=lambda p: p.row) == load_pairs(folder)


def test_prompts_of_both_kinds_flags_and_meta_survive_parquet(tmp_path):
    path = tmp_path / "m.jsonl"
    answers = [[*TURNS, {"role": "assistant", "content": text}] for text in ("a", "")]
    path.write_text(json.dumps({"chosen": answers[0], "rejected": answers[1], "score": {"x": [1.5, None]}}) + "\n")
    chat = read_pairs(PreferencesConfig(source="messages", path=str(path)))
    path.write_text(json.dumps({"prompt": "plain \U0001f600\x00", "chosen": "a", "rejected": "b"}) + "\n")
    pairs = chat + read_pairs(PreferencesConfig(source="columns", path=str(path)))
    artifacts.write_table(tmp_path / "t.parquet", pairs_to_table(pairs))
    assert table_to_pairs(artifacts.read_table(tmp_path / "t.parquet")) == pairs
    assert table_to_pairs(pairs_to_table([])) == []


def test_a_second_run_parses_nothing_and_changes_nothing(data, tmp_path, monkeypatch):
    first = prepare(config(data), 0, tmp_path / "pairs")
    monkeypatch.setattr("preftrace.preferences.stage.pairs_from", lambda *_: pytest.fail("parsed again"))
    assert prepare(config(data), 0, tmp_path / "pairs") == first


def test_the_same_content_under_another_name_is_the_same_stage(data, tmp_path):
    first = prepare(config(data), 0, tmp_path / "pairs")
    other = shutil.copy(data, tmp_path / "renamed.jsonl")
    assert prepare(config(other), 0, tmp_path / "pairs") == first


def test_changed_content_of_the_same_size_is_another_stage(data, tmp_path):
    first = prepare(config(data), 0, tmp_path / "pairs")
    data.write_text(data.read_text().replace("q5", "q#"))
    second = prepare(config(data), 0, tmp_path / "pairs")
    assert second.identity != first.identity
    assert second.content != first.content
    assert load_pairs(tmp_path / "pairs")[5].prompt[0].content == "q#"


def test_settings_that_matter_change_the_identity_and_the_seed_only_with_a_holdout(data, tmp_path):
    def identity(name, seed=0, **settings):
        return prepare(config(data, **settings), seed, tmp_path / name).identity

    plain = identity("a")
    assert identity("b", seed=1) == plain
    assert len({plain, identity("c", limit=5), identity("d", drop=()), identity("e", holdout=0.3)}) == 4
    assert identity("f", holdout=0.3, seed=1) != identity("e", holdout=0.3)


def test_two_runs_write_the_same_bytes(data, tmp_path):
    one, other = (prepare(config(data, holdout=0.3), 0, tmp_path / name) for name in ("a", "b"))
    assert one.outputs == other.outputs
    assert one.content == other.content


def test_a_killed_run_is_finished_by_the_next(data, tmp_path, monkeypatch):
    whole = prepare(config(data), 0, tmp_path / "whole")
    real = artifacts.write_table

    def killed(path, table):
        if path.name == "dropped.parquet":
            raise KeyboardInterrupt
        real(path, table)

    monkeypatch.setattr(artifacts, "write_table", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(config(data), 0, tmp_path / "pairs")
    assert not (tmp_path / "pairs").exists()
    monkeypatch.setattr(artifacts, "write_table", real)
    assert prepare(config(data), 0, tmp_path / "pairs").content == whole.content


def test_bad_data_leaves_a_finished_stage_alone(data, tmp_path):
    first = prepare(config(data), 0, tmp_path / "pairs")
    data.write_bytes(gzip.compress(b"x"))
    with pytest.raises(DataError):
        prepare(config(data), 0, tmp_path / "pairs")
    assert artifacts.read_record(tmp_path / "pairs") == first


def test_a_folder_that_is_no_stage_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"holds no pairs\.parquet"):
        load_pairs(tmp_path)
