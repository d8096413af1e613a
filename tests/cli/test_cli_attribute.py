"""`preftrace attribute RUN STAGE`: what is said on the command line reaches the stage."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from preftrace.cli import attribute_show
from preftrace.cli.app import app
from preftrace.errors import ConfigError


@pytest.fixture
def asked(monkeypatch):
    """Arguments that the API was called with."""
    seen = []
    monkeypatch.setattr("preftrace.api.attribute", lambda run, stage, **given: seen.append((str(run), stage, given)))
    monkeypatch.setattr(attribute_show, "print_scores", lambda *_: None)
    return seen


def invoke(*words):
    return CliRunner().invoke(app, ["attribute", *words])


def test_settings_are_the_stages_own(asked):
    done = invoke("run", "dpo", "--set", "mode=store", "--set", "layers=4-9", "--method", "exact")
    assert done.exit_code == 0, done.output
    assert asked == [("run", "dpo", {"out": None, "mode": "store", "layers": "4-9", "methods": ["exact"]})]


@pytest.mark.parametrize(("words", "said"), [("mode", "key=value"), ("methods=exact", "takes methods itself")])
def test_half_a_setting_is_told(asked, words, said):
    done = invoke("run", "dpo", "--set", words)
    assert isinstance(done.exception, ConfigError) and said in str(done.exception)
    assert not asked
