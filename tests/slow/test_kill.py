"""kill -9 at any moment: the same command goes on, and what it leaves equals an uninterrupted run's.

`PREFTRACE_KILL_STUDY=starter pytest -m slow tests/slow/test_kill.py` does it on the starter study, or on a study file.
"""

import os

import pytest

from tests.slow import kill_study
from tests.tiny_study import write_study

KILLS = 10

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tiny_folder, tmp_path_factory):
    named = os.environ.get("PREFTRACE_KILL_STUDY")
    return named or str(write_study(tmp_path_factory.mktemp("study"), tiny_folder))


def test_a_killed_study_goes_on_to_the_same_results(study, tmp_path):
    done = list(kill_study.kills(study, tmp_path, KILLS, seed=1))
    assert len(done) == KILLS
    assert not {kill.at: kill.differences for kill in done if kill.differences}
    in_a_step = [kill for kill in done if kill.begun]
    assert len(in_a_step) >= 2, "hardly any kill met a step at work: the moments are badly chosen"
    assert sum(not kill.ended for kill in done) >= KILLS - 2


def test_a_study_killed_over_and_over_goes_on_to_the_same_results(study, tmp_path):
    done = list(kill_study.kills_in_a_row(study, tmp_path, KILLS, seed=2))
    assert len(done) == KILLS
    assert done[-1].resumed > 0
    assert done[-1].differences == ()


def test_a_difference_would_be_seen(study, tmp_path):
    """The comparison sees a changed file, a changed number and a file too many; not the clock's fields."""
    step = tmp_path / "evaluate"
    step.mkdir()
    (step / "rows.txt").write_text("a")
    (step / "record.json").write_text('{"created": "1", "seconds": 2, "summary": {"n": 1}}')
    before = kill_study.results(tmp_path)
    (step / "record.json").write_text('{"created": "2", "seconds": 3, "summary": {"n": 1}}')
    assert kill_study.results(tmp_path) == before
    (step / "record.json").write_text('{"created": "2", "seconds": 3, "summary": {"n": 2}}')
    assert kill_study.results(tmp_path) != before
    (step / "record.json").write_text('{"created": "1", "seconds": 2, "summary": {"n": 1}}')
    (step / ".rows.txt.1.tmp").write_text("")
    assert kill_study.results(tmp_path) != before
