import pytest

from preftrace.errors import ConfigError
from preftrace.evaluate.backends import hf, openai
from preftrace.study.backend import check_influence
from preftrace.study.config import build
from preftrace.study.reading import read_study
from preftrace.study.run import study_text

STUDY = {"name": "x", "stages": {"sft": {}, "dpo": {"from": "sft"}}, "verticals": {"ethics": None}}


def told(backend, **more):
    study, problems = build({**STUDY, "backend": backend, **more})
    assert (study is None) == bool(problems)
    return {".".join(problem.path): problem.message for problem in problems}


def test_a_study_evaluates_in_this_process_unless_it_says_otherwise():
    assert build(STUDY)[0].backend == hf.Config() == build({**STUDY, "backend": "hf"})[0].backend


def test_a_server_needs_a_name_for_each_stage_and_gives_no_influence():
    found = told({"name": "openai", "model": "mine"})
    assert set(found) == {"backend.model", "attribute"}
    assert "{stage}" in found["backend.model"] and "attribute: null" in found["attribute"]
    assert told({"name": "openai", "model": "mine-{stage}"}, attribute=None) == {}


@pytest.mark.parametrize(
    ("backend", "place", "words"),
    [
        ("opnai", "backend", "unknown backend 'opnai'; known: hf, openai"),
        (5, "backend", "must be a mapping"),
        ({"name": "openai", "modle": "x"}, "backend.modle", "unknown key"),
        ({"name": "openai", "model": "{stage}", "timeout": 0}, "backend.timeout", "greater than 0"),
    ],
)
def test_what_is_wrong_with_a_backend_is_told_with_its_place(backend, place, words):
    assert words in told(backend, attribute=None)[place]


def test_a_study_with_a_backend_written_out_gives_itself_again(tmp_path):
    study, _ = build({**STUDY, "backend": {"name": "openai", "model": "m-{stage}"}, "attribute": None})
    path = tmp_path / "study.yaml"
    path.write_text(study_text(study))
    assert read_study(path) == study and isinstance(study.backend, openai.Config)
    with pytest.raises(ConfigError, match="which backend openai does not tell"):
        check_influence(study)
