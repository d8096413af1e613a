"""The engine of this machine: finished shards stay, changed ones are redone, and workers change nothing."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from preftrace import progress
from preftrace.engines import _base as base
from preftrace.engines import local
from preftrace.engines._base import Resources

WORKER = "tests.engines.test_local:Doubler"
SHARDS = [{"numbers": [i, i + 1]} for i in range(5)]


class Doubler:
    """Multiplies numbers, and notes each shard that it computes in a file of its own."""

    def __init__(self, factor, log, fail_at=None):
        self.factor, self.log, self.fail_at = factor, Path(log), fail_at
        (self.log / f"built-{id(self)}").touch()

    def run(self, shard):
        if shard["numbers"][0] == self.fail_at:
            raise RuntimeError(f"shard of {self.fail_at}")
        (self.log / f"ran-{shard['numbers'][0]}").touch()
        values = [self.factor * n for n in shard["numbers"]]
        return {"rows": pa.table({"value": values}), "arrays": {"x": np.array(values, dtype=np.float32)}}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr(progress, "quiet", True)


@pytest.fixture
def log(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def run(tmp_path, log, shards=SHARDS, workers=1, out="out", **init):
    return local.map_shards(
        WORKER, {"factor": 2, "log": str(log), **init}, shards, tmp_path / out, Resources(workers), "test"
    )


def ran(log, clear=True):
    done = sorted(int(p.name.split("-")[1]) for p in log.glob("ran-*"))
    for path in log.iterdir() if clear else ():
        path.unlink()
    return done


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_results_come_in_shard_order(tmp_path, log):
    folders = run(tmp_path, log)
    assert base.gather_tables(folders, "rows")["value"].to_pylist() == [0, 2, 2, 4, 4, 6, 6, 8, 8, 10]
    assert len(list(log.glob("built-*"))) == 1 and ran(log) == [0, 1, 2, 3, 4]


def test_finished_shards_are_not_computed_again_and_no_worker_is_built_for_none(tmp_path, log):
    first = files(run(tmp_path, log)[0].parent)
    ran(log)
    assert files(run(tmp_path, log)[0].parent) == first
    assert not list(log.iterdir())


def test_a_changed_shard_is_redone_and_no_other(tmp_path, log):
    run(tmp_path, log)
    ran(log)
    changed = [*SHARDS[:2], {"numbers": [20, 21]}, *SHARDS[3:]]
    folders = run(tmp_path, log, changed)
    assert ran(log) == [20]
    assert base.gather_tables(folders, "rows")["value"].to_pylist()[4:6] == [40, 42]


def test_another_setting_of_the_worker_redoes_all(tmp_path, log):
    run(tmp_path, log)
    ran(log)
    folders = run(tmp_path, log, factor=3)
    assert ran(log) == [0, 1, 2, 3, 4] and base.gather_tables(folders, "rows")["value"].to_pylist()[-1] == 15


def test_a_shard_that_was_being_written_is_redone(tmp_path, log):
    """The manifest is what makes a shard finished: files without it do not count."""
    folders = run(tmp_path, log)
    ran(log)
    (folders[3] / "manifest.json").unlink()
    run(tmp_path, log)
    assert ran(log) == [3]


def test_a_shard_that_fails_leaves_the_finished_ones(tmp_path, log):
    with pytest.raises(RuntimeError, match="shard of 2"):
        run(tmp_path, log, fail_at=2)
    assert ran(log) == [0, 1]
    assert [p.name for p in sorted((tmp_path / "out").iterdir())] == ["part-00000", "part-00001"]


def test_two_workers_write_the_same_files_as_one(tmp_path, log):
    one = files(run(tmp_path, log)[0].parent)
    ran(log)
    two = files(run(tmp_path, log, workers=2, out="two")[0].parent)
    assert ran(log) == [0, 1, 2, 3, 4]
    assert one == two and len(one) == 15


def test_an_error_in_a_worker_process_comes_back(tmp_path, log):
    with pytest.raises(RuntimeError, match="shard of 4"):
        run(tmp_path, log, workers=2, fail_at=4)


def test_no_shards_give_no_folders(tmp_path, log):
    assert run(tmp_path, log, []) == [] and not list(log.iterdir())


def test_a_shards_hash_is_of_worker_settings_and_shard():
    first = base.shard_hash("w", {"a": 1}, {"n": [1]})
    assert first == base.shard_hash("w", {"a": 1}, {"n": (1,)})
    others = [("v", {"a": 1}, {"n": [1]}), ("w", {"a": 2}, {"n": [1]}), ("w", {"a": 1}, {"n": [2]})]
    assert first not in {base.shard_hash(*other) for other in others}


def twice(config):
    return {"twice": 2 * config["n"]}


def test_a_group_runs_an_importable_function_on_json_settings():
    config = json.loads(json.dumps({"n": 21}))
    assert local.run_group("tests.engines.test_local:twice", config) == {"twice": 42}
    assert base.resolve("preftrace.engines._base:Resources") is Resources
