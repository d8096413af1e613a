"""Hub data sets and folders laid out like one, through the real `datasets`, without a network."""

import json

import pytest

from preftrace.errors import DataError
from preftrace.preferences import PreferencesConfig, hub, prepare, read_pairs

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def transcripts(n):
    return {"chosen": f"\n\nHuman: q{n}\n\nAssistant: a", "rejected": f"\n\nHuman: q{n}\n\nAssistant: b"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data set of two splits in a sub-folder, and a cache of its own."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "cache" / "downloads")
    inner = tmp_path / "set" / "harmless-base"
    inner.mkdir(parents=True)
    for split, rows in (("train", range(3)), ("test", range(3, 5))):
        (inner / f"{split}.jsonl").write_text("".join(json.dumps(transcripts(n)) + "\n" for n in rows))
    return tmp_path / "set"


def test_a_split_of_a_folder_is_read(folder):
    for split, questions in (("train", ["q0", "q1", "q2"]), ("test", ["q3", "q4"])):
        config = PreferencesConfig(source="hh", path=str(folder), data_dir="harmless-base", split=split)
        assert [p.prompt[0].content for p in read_pairs(config)] == questions


def test_limit_reads_the_first_rows_of_a_split(folder):
    config = PreferencesConfig(source="hh", path=str(folder), data_dir="harmless-base", limit=2)
    assert len(read_pairs(config)) == 2


def test_an_unknown_split_names_the_cause(folder):
    config = PreferencesConfig(source="hh", path=str(folder), data_dir="harmless-base", split="dev")
    with pytest.raises(DataError, match=r"cannot read this folder: .*dev"):
        read_pairs(config)


def test_a_broken_file_in_a_folder_names_the_folder(folder):
    (folder / "harmless-base" / "train.jsonl").write_text('{"chosen": \n')
    config = PreferencesConfig(source="hh", path=str(folder), data_dir="harmless-base")
    with pytest.raises(DataError, match="set: `datasets` cannot read this folder"):
        read_pairs(config)


def test_a_row_of_the_wrong_format_names_folder_and_row(folder):
    config = PreferencesConfig(source="columns", path=str(folder), data_dir="harmless-base")
    with pytest.raises(DataError, match=r"set, row 0: no column 'prompt'; .* Source 'hh' fits this row"):
        read_pairs(config)


def test_a_hub_id_reaches_datasets_with_its_settings_and_commit(folder, monkeypatch, tmp_path):
    """The call that would go to the Hub is answered by the folder; everything around it is the real path."""
    import datasets

    real, calls = datasets.load_dataset, []

    def answered_by_folder(path, **settings):
        calls.append((path, settings))
        return real(str(folder), **{**settings, "revision": None})

    monkeypatch.setattr(datasets, "load_dataset", answered_by_folder)
    settings = {"source": "hh", "path": "owner/pairs", "data_dir": "harmless-base", "split": "test"}
    record = prepare(PreferencesConfig(**settings, revision=COMMIT), 0, tmp_path / "pairs")
    expected = {"name": None, "data_dir": "harmless-base", "split": "test", "revision": COMMIT}
    assert calls == [("owner/pairs", expected)]
    assert record.summary["read"] == 2
    again = prepare(PreferencesConfig(**settings, revision=COMMIT), 0, tmp_path / "pairs")
    assert len(calls) == 1
    assert again == record
    other = prepare(PreferencesConfig(**settings, revision=COMMIT[::-1]), 0, tmp_path / "pairs")
    assert other.identity != record.identity


def test_a_commit_needs_no_network_and_a_branch_that_nobody_knows_says_what_to_do():
    pinned = PreferencesConfig(source="hh", path="owner/pairs", revision=COMMIT)
    assert hub.open_hub(pinned).name == "Hub data set owner/pairs"
    with pytest.raises(DataError, match="owner/pairs: no file or folder of this name, and as a Hub data set"):
        read_pairs(PreferencesConfig(source="hh", path="owner/pairs"))


def test_a_name_that_ends_like_a_file_is_no_hub_id():
    with pytest.raises(DataError, match=r"data/pairs\.jsonl: no such file"):
        read_pairs(PreferencesConfig(source="hh", path="data/pairs.jsonl"))


def test_a_folders_hash_follows_its_contents(folder, tmp_path):
    config = PreferencesConfig(source="hh", path=str(folder), data_dir="harmless-base")
    first = hub.open_folder(folder, config).digest
    moved = folder.rename(tmp_path / "moved")
    assert hub.open_folder(moved, config).digest == first
    with open(moved / "harmless-base" / "test.jsonl", "a") as file:
        file.write(json.dumps(transcripts(9)) + "\n")
    assert hub.open_folder(moved, config).digest != first
