"""The whole flow on a tiny model: run, run again, change an option; and folders that are no run's."""

import json
import re
import resource
import shutil
import subprocess
import sys

import pytest

from preftrace import artifacts, progress
from preftrace.errors import ArtifactError
from preftrace.study.reading import read_study
from preftrace.study.run import run_study
from tests.tiny_study import VERTICALS, snapshot, write_study

pytestmark = pytest.mark.integration

STAGES = ("base", "sft", "dpo")
EVALUATIONS = {f"evaluate/{stage}/{vertical}" for stage in STAGES for vertical in VERTICALS}
STEPS = {"pairs", "align/sft", "align/dpo", "compare", "attribute/sft", "attribute/dpo"} | EVALUATIONS


@pytest.fixture(scope="module")
def study_file(tiny_folder, tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"), tiny_folder)


@pytest.fixture(scope="module")
def finished(study_file):
    """A run of the study, made once; tests that change it work on a copy beside it."""
    progress.quiet = True
    return run_study(read_study(study_file), study_file.parent / "run")


@pytest.fixture
def copy(finished, request):
    """A copy of the finished run, at the same depth, so that relative paths in it hold."""
    folder = finished.folder.with_name("copy")
    shutil.copytree(finished.folder, folder)
    yield folder
    shutil.rmtree(folder)


def redone(folder, before):
    """The steps of a run whose records are not those of an earlier snapshot."""
    after = {name: entry for name, entry in snapshot(folder).items() if name.endswith("record.json")}
    return {name.removesuffix("/record.json") for name, entry in after.items() if entry != before.get(name)}


def test_the_whole_flow_leaves_every_record_and_a_report(finished):
    records = finished.records()
    assert set(records) == STEPS
    assert records["pairs"].summary["train"] == 12
    assert records["align/dpo"].summary["pairs_used"] == 12
    for name in EVALUATIONS:
        assert records[name].summary["trust"]["n"] in (3, 4), name
    assert records["attribute/dpo"].summary["pairs"] == 12
    assert len([c for c in finished.comparisons() if c.measure == "trust"]) == 3 * len(VERTICALS)
    report = finished.report.read_text(encoding="utf-8")
    assert "could not be made" not in report and all(vertical in report for vertical in VERTICALS)


def test_every_record_names_its_files_and_the_content_of_what_it_was_made_from(finished):
    records = finished.records()
    for name, record in records.items():
        found = {p.relative_to(record.folder).as_posix() for p in record.folder.rglob("*") if p.is_file()}
        assert found == {*record.outputs, "record.json"}, name
        assert all(artifacts.hash_file(record.folder / f) == digest for f, digest in record.outputs.items()), name
    assert records["align/sft"].inputs["pairs"] == records["pairs"].content
    assert records["attribute/dpo"].inputs["pairs"] == records["pairs"].content
    assert records["attribute/dpo"].inputs["evaluate/privacy"] == records["evaluate/dpo/privacy"].content
    for stage in STAGES:
        assert len({records[f"evaluate/{stage}/{vertical}"].inputs["model"] for vertical in VERTICALS}) == 1
    assert len({records[f"evaluate/{stage}/ethics"].inputs["model"] for stage in STAGES}) == 3


def test_nothing_is_left_over_in_a_finished_run(finished):
    names = [p.name for p in finished.folder.rglob("*")]
    assert not [n for n in names if n.endswith((".partial", ".old", ".tmp")) or n.startswith("_")]
    assert {p.name for p in finished.folder.iterdir() if not p.name.startswith(".")} == {
        *("pairs", "align", "evaluate", "compare", "attribute", "report.html", "run.json", "study.yaml")
    }


def test_the_second_run_changes_no_file_loads_no_torch_and_takes_seconds(finished, study_file):
    before = snapshot(finished.folder)
    command = [sys.executable, "-X", "importtime", "-m", "preftrace", "run", str(study_file)]
    started = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*command, "--out", str(finished.folder)], capture_output=True, text=True, check=False)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert f"report: {finished.report}" in done.stdout
    assert snapshot(finished.folder) == before
    loaded = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "preftrace.study.run" in loaded
    assert not loaded & {"torch", "transformers", "peft", "trl", "datasets", "sklearn", "altair"}
    # The command's own work: a busy machine does it late, but it is no more.
    assert ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime < 5


def test_the_study_in_the_run_folder_is_the_study_that_ran(finished, study_file):
    assert read_study(finished.folder / "study.yaml") == read_study(study_file)
    assert artifacts.read_json(finished.folder / "run.json")["seed"] == 0


def test_running_the_study_of_a_run_folder_again_finds_all_done(finished):
    before = snapshot(finished.folder)
    run_study(read_study(finished.folder / "study.yaml"), finished.folder)
    assert snapshot(finished.folder) == before


def test_another_beta_redoes_dpo_and_what_hangs_on_it(copy, study_file):
    before = snapshot(copy)
    run_study(read_study(study_file, ["stages.dpo.beta=2"]), copy)
    wanted = {"align/dpo", "compare", "attribute/dpo"} | {f"evaluate/dpo/{vertical}" for vertical in VERTICALS}
    assert redone(copy, before) == wanted
    after = snapshot(copy)
    assert after["report.html"][0] > before["report.html"][0]
    assert "beta: 2" in (copy / "study.yaml").read_text()


def test_another_option_of_a_vertical_redoes_that_vertical_and_what_hangs_on_it(copy, study_file):
    before = snapshot(copy)
    run_study(read_study(study_file, ["verticals.privacy.max_new_tokens=7"]), copy)
    wanted = {f"evaluate/{stage}/privacy" for stage in STAGES} | {"compare", "attribute/sft", "attribute/dpo"}
    assert redone(copy, before) == wanted


def test_another_number_of_resamples_redoes_the_comparison_only(copy, study_file):
    before = snapshot(copy)
    run_study(read_study(study_file, ["compare.resamples=300"]), copy)
    assert redone(copy, before) == {"compare"}


def test_speed_knobs_redo_nothing(copy, study_file):
    before = snapshot(copy)
    said = ["workers=2", "stages.sft.save_steps=7", "attribute.batch_tokens=99", "attribute.cache_gb=0"]
    run_study(read_study(study_file, said), copy)
    assert redone(copy, before) == set()


def test_going_back_to_the_first_settings_gives_the_first_results(copy, study_file, finished):
    run_study(read_study(study_file, ["compare.resamples=300"]), copy)
    run_study(read_study(study_file), copy)
    first, again = finished.records()["compare"], artifacts.read_record(copy / "compare")
    assert (again.content, again.identity) == (first.content, first.identity)


def test_a_step_that_was_deleted_is_made_again_alike(copy, study_file, finished):
    before = snapshot(copy)
    shutil.rmtree(copy / "evaluate" / "sft" / "ethics")
    run_study(read_study(study_file), copy)
    assert redone(copy, before) == {"evaluate/sft/ethics"}
    again = artifacts.read_record(copy / "evaluate" / "sft" / "ethics")
    assert again.content == finished.records()["evaluate/sft/ethics"].content


def test_a_file_that_a_record_names_and_that_is_gone_is_told(copy, study_file):
    (copy / "evaluate" / "sft" / "ethics" / "options.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"evaluate/sft/ethics lacks options\.parquet"):
        run_study(read_study(study_file), copy)


def test_a_run_folder_that_was_moved_is_still_done(finished, study_file, tmp_path):
    moved = tmp_path / "a" / "b" / "c" / "moved"
    shutil.copytree(finished.folder, moved)
    shutil.copytree(read_study(study_file).model, tmp_path / "a" / "tiny")
    before = snapshot(moved)
    run_study(read_study(study_file, [f"model={tmp_path / 'a' / 'tiny'}"]), moved)
    assert redone(moved, before) == set()


def test_a_folder_with_something_else_in_it_is_left_alone(study_file, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    before = snapshot(tmp_path)
    with pytest.raises(ArtifactError, match="is not empty and no run folder; nothing was written"):
        run_study(read_study(study_file), tmp_path)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("left", [".lock", ".run.json.123.tmp", ".study.yaml.9.tmp"])
def test_a_run_that_was_killed_as_it_began_is_taken_up(study_file, tmp_path, left, monkeypatch):
    """What a kill can leave before the folder is marked as a run's does not make it somebody else's folder."""
    out = tmp_path / "run"
    out.mkdir()
    (out / left).touch()
    monkeypatch.setattr("preftrace.study.run._Study.everything", lambda self: None)
    assert run_study(read_study(study_file), out).folder == out
    assert (out / "study.yaml").is_file()


HOLD = (
    "import fcntl, sys, time\nfile = open(sys.argv[1], 'a')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
    "print('held', flush=True)\ntime.sleep(60)"
)


def test_a_folder_in_use_is_refused_and_not_touched(copy, study_file):
    """Even where the second study is another one, the study and the run file of the first stay as they are."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(copy / ".lock")], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        before = snapshot(copy)
        with pytest.raises(ArtifactError, match="is in use by another preftrace"):
            run_study(read_study(study_file, ["seed=3"]), copy)
        assert snapshot(copy) == before
    finally:
        holder.kill()
        holder.communicate()
    run_study(read_study(study_file), copy)


def test_api_keywords_are_changes_to_the_study(copy, study_file):
    import preftrace

    before = snapshot(copy)
    run = preftrace.run(study_file, copy, compare__resamples=250)
    assert redone(copy, before) == {"compare"} and run.records()["compare"].config["resamples"] == 250


def test_the_command_prints_the_comparisons_as_json(finished, study_file, capsys, monkeypatch):
    from preftrace.cli import main

    words = ["preftrace", "run", str(study_file), "--out", str(finished.folder), "--json"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    printed = json.loads(capsys.readouterr().out)
    assert printed["report"] == str(finished.report) and len(printed["comparisons"]) == len(finished.comparisons())
