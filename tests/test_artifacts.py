"""Stages are complete or not there at all; a killed one goes on where its work is the same."""

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from preftrace import artifacts
from preftrace.artifacts import StageSpec, hash_file, hash_json, read_record, run_stage
from preftrace.errors import ArtifactError

SPEC = StageSpec("test", "a/test", 1, {"x": 1}, {"data": "abc"})
OTHER = StageSpec("test", "a/test", 1, {"x": 2}, {"data": "abc"})


class Killed(BaseException):
    """Stands for kill -9: nothing in the library may catch it."""


def make(work: Path):
    (work / "inner").mkdir(exist_ok=True)
    (work / "inner" / "b.txt").write_text("b")
    (work / "a.txt").write_text("a")
    (work / "_scratch").mkdir(exist_ok=True)
    (work / "_scratch" / "x").write_text("x")
    (work / "_file").write_text("x")
    return {"n": 1, "missing": float("nan")}


def never(work):
    raise AssertionError("made again")


def test_a_stage_is_made_once_and_then_returned(tmp_path):
    record = run_stage(tmp_path / "s", SPEC, make)
    assert run_stage(tmp_path / "s", SPEC, never) == record == read_record(tmp_path / "s")
    assert (record.kind, record.name, record.version, record.config) == ("test", "a/test", 1, {"x": 1})
    assert record.summary == {"n": 1, "missing": None} and record.folder == tmp_path / "s"


def test_a_record_names_every_file_by_its_hash_and_no_working_file_stays(tmp_path):
    record = run_stage(tmp_path / "s", SPEC, make)
    assert set(record.outputs) == {"a.txt", "inner/b.txt"}
    assert all(hash_file(tmp_path / "s" / name) == digest for name, digest in record.outputs.items())
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {"s/a.txt", "s/inner/b.txt", "s/record.json"}


def test_content_depends_on_files_and_summary_only(tmp_path):
    first = run_stage(tmp_path / "a", SPEC, make)
    assert run_stage(tmp_path / "b", OTHER, make).content == first.content
    assert run_stage(tmp_path / "c", SPEC, lambda w: {**make(w), "n": 2}).content != first.content
    changed = run_stage(tmp_path / "d", SPEC, lambda w: (make(w), (w / "a.txt").write_text("A"), make_summary())[2])
    assert changed.content != first.content


def make_summary():
    return {"n": 1, "missing": float("nan")}


@pytest.mark.parametrize(
    "other",
    [
        StageSpec("other", "a/test", 1, {"x": 1}, {"data": "abc"}),
        StageSpec("test", "a/test", 2, {"x": 1}, {"data": "abc"}),
        OTHER,
        StageSpec("test", "a/test", 1, {"x": 1}, {"data": "abd"}),
    ],
)
def test_identity_is_of_kind_version_config_and_inputs(other):
    assert other.identity != SPEC.identity


def test_identity_is_not_of_the_name_nor_of_the_order_of_keys():
    config = {"x": 1, "y": (1, 2)}
    first = StageSpec("k", "one", 1, config, {"a": "1", "b": "2"})
    assert first.identity == StageSpec("k", "two", 1, {"y": [1, 2], "x": 1}, {"b": "2", "a": "1"}).identity


def test_a_stage_of_another_identity_is_replaced_whole(tmp_path):
    run_stage(tmp_path / "s", SPEC, make)
    record = run_stage(tmp_path / "s", OTHER, lambda work: (work / "new.txt").write_text("n") and {})
    assert set(record.outputs) == {"new.txt"} and not (tmp_path / "s" / "a.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_the_old_stage_stays_until_the_new_one_is_complete(tmp_path):
    old = run_stage(tmp_path / "s", SPEC, make)

    def killed(work):
        (work / "half.txt").write_text("h")
        raise Killed

    with pytest.raises(Killed):
        run_stage(tmp_path / "s", OTHER, killed)
    assert read_record(tmp_path / "s") == old


def test_a_killed_stage_goes_on_in_its_own_work(tmp_path):
    def half(work):
        (work / "_shards").mkdir()
        (work / "_shards" / "0").write_text("done")
        raise Killed

    with pytest.raises(Killed):
        run_stage(tmp_path / "s", SPEC, half)
    assert read_record(tmp_path / "s") is None
    seen = []
    run_stage(tmp_path / "s", SPEC, lambda work: seen.append((work / "_shards" / "0").read_text()) or make(work))
    assert seen == ["done"]


def test_partial_work_of_another_identity_is_thrown_away(tmp_path):
    def half(work):
        (work / "wrong.txt").write_text("of the old settings")
        raise Killed

    with pytest.raises(Killed):
        run_stage(tmp_path / "s", OTHER, half)
    assert set(run_stage(tmp_path / "s", SPEC, make).outputs) == {"a.txt", "inner/b.txt"}


def test_a_folder_that_only_looks_like_partial_work_is_left_alone(tmp_path):
    for name in ("s.partial", "s.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("?")
    with pytest.raises(ArtifactError, match="in the way"):
        run_stage(tmp_path / "s", SPEC, make)
    shutil.move(tmp_path / "s.partial", tmp_path / "elsewhere")
    run_stage(tmp_path / "s", SPEC, make)
    assert (tmp_path / "s.old" / "mine.txt").is_file() and (tmp_path / "elsewhere" / "mine.txt").is_file()


def test_a_stage_of_another_kind_is_not_written_over(tmp_path):
    before = run_stage(tmp_path / "s", SPEC, make)
    with pytest.raises(ArtifactError, match="nothing was written over"):
        run_stage(tmp_path / "s", dataclasses.replace(SPEC, kind="another"), make)
    assert read_record(tmp_path / "s") == before


def test_a_file_that_was_being_written_at_the_kill_is_no_output(tmp_path):
    """kill -9 inside `replacing` leaves its temporary file; the resumed stage equals an uninterrupted one."""
    whole = run_stage(tmp_path / "whole", SPEC, make)

    def killed(work):
        make(work)
        (work / ".a.txt.4242.tmp").write_text("hal")
        (work / "inner" / ".b.txt.4242.tmp").write_text("hal")
        raise Killed

    with pytest.raises(Killed):
        run_stage(tmp_path / "s", SPEC, killed)
    resumed = run_stage(tmp_path / "s", SPEC, make)
    assert (resumed.outputs, resumed.content) == (whole.outputs, whole.content)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("step", range(6))
def test_a_kill_at_any_step_of_completion_leaves_the_same_stage_in_the_end(tmp_path, monkeypatch, step):
    """Killed before the step-th of the renames and removals that complete a stage that replaces another."""
    whole = run_stage(tmp_path / "whole", SPEC, make)
    run_stage(tmp_path / "s", OTHER, make)
    calls = {"left": step}

    def counted(function):
        def wrapper(*args, **kwargs):
            if calls["left"] == 0:
                raise Killed
            calls["left"] -= 1
            return function(*args, **kwargs)

        return wrapper

    with monkeypatch.context() as patch:
        patch.setattr(artifacts.os, "replace", counted(os.replace))
        patch.setattr(artifacts.shutil, "rmtree", counted(artifacts.shutil.rmtree))
        patch.setattr(artifacts, "_sync", counted(artifacts._sync))
        with pytest.raises(Killed):
            run_stage(tmp_path / "s", SPEC, make)
    resumed = run_stage(tmp_path / "s", SPEC, make)
    assert (resumed.identity, resumed.outputs, resumed.content) == (whole.identity, whole.outputs, whole.content)
    run_stage(tmp_path / "s", OTHER, make)
    assert {p.name for p in tmp_path.iterdir()} == {"whole", "s"}


def test_a_folder_that_is_no_stage_is_refused_and_left_alone(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"s is not empty and holds no record\.json; nothing was written"):
        run_stage(tmp_path / "s", SPEC, never)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["s", "s/mine.txt"]


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "s").mkdir()
    assert run_stage(tmp_path / "s", SPEC, make).outputs


@pytest.mark.parametrize("place", ["file", "file/s", "file/x/s"])
def test_a_place_that_cannot_be_written_is_told(tmp_path, place):
    (tmp_path / "file").write_text("f")
    with pytest.raises(ArtifactError, match="file"):
        run_stage(tmp_path / place, SPEC, never)
    assert (tmp_path / "file").read_text() == "f"


def test_a_record_that_names_a_missing_file_is_told(tmp_path):
    run_stage(tmp_path / "s", SPEC, make)
    (tmp_path / "s" / "inner" / "b.txt").unlink()
    with pytest.raises(ArtifactError, match=r"s lacks inner/b\.txt, which its record names\. Delete it"):
        run_stage(tmp_path / "s", SPEC, never)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"kind": "test"}', "\xff"])
def test_a_record_that_cannot_be_read_is_told(tmp_path, text):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "record.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"record\.json cannot be read .* Delete .* to make it anew"):
        read_record(tmp_path / "s")


def test_a_reader_sees_all_of_a_file_or_the_old_one(tmp_path):
    path = tmp_path / "x.json"
    artifacts.write_json(path, {"old": 1})
    with pytest.raises(Killed), artifacts.replacing(path) as file:
        file.write(b'{"new"')
        file.flush()
        assert artifacts.read_json(path) == {"old": 1}
        raise Killed
    assert artifacts.read_json(path) == {"old": 1} and [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_missing_numbers_become_null_and_others_keep_their_values(tmp_path):
    @dataclass
    class Point:
        x: float
        where: Path

    value = {
        "nan": float("nan"),
        "inf": [float("inf"), -float("inf")],
        "numpy": (np.float64("nan"), np.float32(0.5), np.int64(3), np.bool_(True)),
        "point": Point(1.5, Path("a/b")),
        "text": "é\u2028",
        2: None,
    }
    artifacts.write_json(tmp_path / "x.json", value)
    assert "NaN" not in (tmp_path / "x.json").read_text() and "Infinity" not in (tmp_path / "x.json").read_text()
    assert artifacts.read_json(tmp_path / "x.json") == {
        "nan": None,
        "inf": [None, None],
        "numpy": [None, 0.5, 3, True],
        "point": {"x": 1.5, "where": "a/b"},
        "text": "é\u2028",
        "2": None,
    }


def test_what_is_no_json_is_an_error(tmp_path):
    with pytest.raises(TypeError, match="set is not JSON"):
        artifacts.write_json(tmp_path / "x.json", {"x": {1}})
    assert not list(tmp_path.iterdir())


def test_tables_and_tensors_come_back_as_they_were_written(tmp_path):
    table = pa.table({"x": pa.array([1.5, float("nan"), None]), "y": ["a", "b", None]})
    artifacts.write_table(tmp_path / "deep" / "t.parquet", table)
    back = artifacts.read_table(tmp_path / "deep" / "t.parquet")
    assert back.schema == table.schema and back["y"].to_pylist() == ["a", "b", None]
    assert back["x"].null_count == 1 and np.isnan(back["x"][1].as_py())
    tensors = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2], dtype=np.int64)}
    artifacts.write_tensors(tmp_path / "t.safetensors", tensors)
    read = artifacts.read_tensors(tmp_path / "t.safetensors")
    assert all(np.array_equal(read[k], v) and read[k].dtype == v.dtype for k, v in tensors.items())


def test_hashes_are_of_canonical_json():
    assert hash_json({"b": 1, "a": [1.0, float("nan")]}) == hash_json({"a": (1.0, None), "b": 1})
    assert hash_json({"a": 1}) != hash_json({"a": 2}) and hash_json({"a": 1}) != hash_json({"a": "1"})
    assert json.loads(json.dumps(artifacts.versions()))["numpy"] == np.__version__
