"""The knobs of the ppo stage that must not change its result: trackers, and recomputed activations."""

from __future__ import annotations

import pytest

from preftrace import artifacts
from preftrace.align import _ppo_run
from preftrace.errors import ConfigError

RULE = "def vowels(texts, answers):\n    return [float(any(c in 'aeiou' for c in answer)) for answer in answers]\n"
SMALL = {"rollouts": 4, "max_new_tokens": 6, "epochs": 2, "batch_size": 2, "ppo_epochs": 2}


@pytest.fixture
def rule(tmp_path):
    (tmp_path / "rules.py").write_text(RULE)
    return f"python:{tmp_path / 'rules.py'}:vowels"


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """What a tracker of accelerate's interface was told: (project, folder), (step, values) ..., "finished"."""
    from accelerate import tracking

    seen: list[tuple] = []

    class Notebook(tracking.GeneralTracker):
        name = "notebook_of_tests"
        requires_logging_directory = True
        tracker = None

        def __init__(self, project, folder, **kwargs):
            super().__init__()
            self.told = (project, str(folder))

        def start(self):
            seen.append(self.told)

        def log(self, values, step=None, **kwargs):
            seen.append((step, values))

        def finish(self):
            seen.append("finished")

    (tmp_path / "notebook_of_tests.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    tracking.register_tracker_class(Notebook)
    yield seen
    del tracking.LOGGER_TYPE_TO_CLASS[Notebook.name]


@pytest.fixture
def crash(stage, toy, rule, monkeypatch):
    """`crash(name, step, ...)` trains up to a step that fails."""

    def run(name, number, **settings):
        step = _ppo_run._step

        def fail(job, policy, state, at, *rest):
            if at == number - 1:
                raise KeyboardInterrupt
            step(job, policy, state, at, *rest)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_ppo_run, "_step", fail)
            stage("ppo", toy, name=name, reward=rule, **settings)

    return run


def test_a_tracker_gets_every_step_and_goes_on_after_a_crash(stage, toy, rule, notebook, crash, tmp_path):
    settings = {"save_steps": 2, **SMALL}
    plain = stage("ppo", toy, name="plain", reward=rule, **settings)
    assert notebook == []
    crash("told", 4, report_to="notebook_of_tests", **settings)
    start = ("told", str(tmp_path / "align" / "told.logs"))
    assert notebook[0] == start and notebook[-1] == "finished"
    assert [step for step, _ in notebook[1:-1]] == [1, 2, 3]
    notebook.clear()
    told = stage("ppo", toy, name="told", reward=rule, report_to=("none", "notebook_of_tests"), **settings)
    assert notebook[0] == start and notebook[-1] == "finished"
    curves = artifacts.read_table(told.folder / "curves.parquet").to_pylist()
    expected = [(row.pop("step"), {f"train/{k}": v for k, v in row.items()}) for row in curves]
    assert notebook[1:-1] == expected[2:]
    assert told.outputs == plain.outputs and told.summary == plain.summary


def test_tensorboard_writes_beside_the_stage(stage, toy, rule, crash):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    crash("ppo", 4, save_steps=2, report_to="tensorboard", **SMALL)
    record = stage("ppo", toy, reward=rule, save_steps=2, report_to="tensorboard", **SMALL)
    (folder,) = {path.parent for path in (record.folder.parent / "ppo.logs").rglob("*tfevents*")}
    events = EventAccumulator(str(folder))
    events.Reload()
    rewards = events.Scalars("train/reward")
    assert [event.step for event in rewards] == [1, 2, 3, 4, 5, 6]
    curves = artifacts.read_table(record.folder / "curves.parquet").to_pydict()
    assert [event.value for event in rewards] == pytest.approx(curves["reward"])


def test_a_tracker_that_accelerate_does_not_know_is_the_users_error(stage, toy, rule):
    with pytest.raises(ConfigError, match=r"report_to: unknown tracker 'json'; known: none, all, aim"):
        stage("ppo", toy, reward=rule, report_to=("json", "none"), **SMALL)


def test_recomputed_activations_give_the_same_bytes(stage, toy, rule, monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaMLP

    runs = []
    forward = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: runs.append(self.training) or forward(self, x))
    plain = stage("ppo", toy, name="plain", reward=rule, **SMALL)
    needed = len(runs)
    frugal = stage("ppo", toy, name="frugal", reward=rule, gradient_checkpointing=True, **SMALL)
    assert len(runs) > 2 * needed, "nothing was recomputed"
    assert not any(runs), "a layer's modules were in training mode"
    assert frugal.outputs == plain.outputs and frugal.summary == plain.summary
