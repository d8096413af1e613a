"""The study file: what is right is taken, and everything that is wrong is told at once, with its line."""

import pytest

from preftrace.errors import ConfigError, DataError
from preftrace.study.config import StudyConfig, build
from preftrace.study.reading import read_study
from preftrace.study.run import study_text

GOOD = """\
name: good
stages:
  sft: {epochs: 2}
  dpo:
    from: sft
    beta: 0.1
verticals:
  ethics:
  privacy: {samples: 2}
"""


@pytest.fixture
def write(tmp_path):
    def to(text):
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return to


def problems(path, changes=()):
    with pytest.raises(ConfigError) as caught:
        read_study(path, changes)
    return caught.value.problems


def test_a_study_is_read_with_its_defaults(write):
    study = read_study(write(GOOD))
    assert isinstance(study, StudyConfig)
    assert (study.name, study.model, study.format, study.seed) == ("good", "starter", "raw", 0)
    assert list(study.stages) == study.order() == study.attributed() == ["sft", "dpo"]
    assert study.kinds == {"sft": "sft", "dpo": "dpo"}
    assert (study.stages["sft"].epochs, study.stages["sft"].from_, study.stages["dpo"].from_) == (2, "base", "sft")
    assert study.verticals["privacy"].samples == 2


def test_the_starter_study_is_sound_and_asks_for_every_vertical():
    study = read_study()
    assert study.name == "starter" and study.order() == ["sft", "reward", "ppo", "dpo"] and len(study.verticals) == 5


def test_a_study_written_out_gives_itself_again(write):
    path = write(GOOD.replace("  dpo:\n", "  second:\n    kind: dpo\n"))
    study = read_study(path)
    assert study.kinds == {"sft": "sft", "second": "dpo"}
    again = read_study(write(study_text(study)))
    assert again == study and study_text(again) == study_text(study)


def test_three_mistakes_are_told_together_with_their_lines(write):
    text = GOOD.replace("epochs: 2", "epochs: -2").replace("beta: 0.1", "betta: 0.1").replace("ethics:", "ethiks:")
    found = problems(write(text))
    assert len(found) == 3
    assert found[0].startswith("line 3: stages.sft.epochs: ") and "-2" in found[0]
    assert found[1].startswith("line 6: stages.dpo.betta: unknown key; known: ") and "beta" in found[1]
    assert found[2].startswith("line 8: verticals.ethiks: unknown vertical 'ethiks'; known: bbq, ethics, ")


def test_a_message_counts_the_problems_and_names_the_file(write):
    path = write(GOOD.replace("epochs: 2", "epochs: x"))
    with pytest.raises(ConfigError, match=rf"1 problem in {path}:\n  - line 3: stages\.sft\.epochs: "):
        read_study(path)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "sft: {epochs: 2}",
            "sfft:\n  sft:",
            "line 3: stages.sfft: unknown stage kind 'sfft'; known: dpo, ppo, reward, rloo, sft",
        ),
        ("sft: {epochs: 2}", "sft: 2", "line 3: stages.sft: must be a mapping of settings, not 2"),
        ("from: sft", "from: ppo", "line 5: stages.dpo.from: 'ppo' is not a stage; known: base, sft, dpo"),
        ("name: good", "name: ../x", "line 1: name: String should match pattern"),
        ("name: good", "name: good\nsead: 1", "line 2: sead: unknown key; known: adapter, attribute, "),
        ("name: good", "kinds: {}\nname: good", "line 1: kinds: unknown key"),
        ("name: good", "seed: -1\nname: good", "line 1: seed: Input should be greater than or equal to 0, got -1"),
        ("name: good\n", "", "name: is required"),
        ("name: good", "name: good\nattribute: {stages: [ppo]}", "line 2: attribute.stages: 'ppo' is not a stage"),
        (
            "name: good",
            "name: good\nattribute: {methods: [exact2]}",
            "line 2: attribute.methods: unknown influence method 'exact2'; known: datainf, ekfac, ensemble, exact, ide",
        ),
        (
            "name: good",
            "name: good\npreferences: {source: hhh, path: x}",
            "line 2: preferences.source: unknown preference source 'hhh'; known: columns, hh, messages, starter",
        ),
        ("name: good", "name: good\npreferences: {source: hh}", "line 2: preferences: source 'hh' needs a path"),
        ("{samples: 2}", "{samples: 2, path: x}", "line 9: verticals.privacy: path 'x' is given and source is starter"),
        ("  ethics:\n", "  toxicity: {scorer: nice}\n", "line 8: verticals.toxicity.scorer: unknown scorer 'nice'"),
        ("sft: {epochs: 2}", "base: {kind: sft}\n  sft:", "line 3: stages.base: is no stage's name"),
    ],
)
def test_one_mistake_is_told_once_with_its_line_and_what_is_known(write, old, new, told):
    assert old in GOOD
    found = problems(write(GOOD.replace(old, new)))
    assert len(found) == 1 and found[0].startswith(told), found


def test_a_stage_with_a_mistake_is_still_a_stage_to_start_from(write):
    """The fault is in sft: dpo, which starts from it, must not be told that there is no sft."""
    found = problems(write(GOOD.replace("epochs: 2", "epochs: 0")))
    assert len(found) == 1 and "stages.sft.epochs" in found[0]


def test_stages_that_start_from_one_another_in_a_circle_are_told(write):
    found = problems(write(GOOD.replace("sft: {epochs: 2}", "sft: {from: dpo}")))
    assert [p.split(": starts")[0] for p in found] == ["line 3: stages.sft.from", "line 5: stages.dpo.from"]
    assert problems(write(GOOD.replace("from: sft", "from: dpo")))[0].startswith("line 5: stages.dpo.from: starts")


def test_stages_run_after_the_one_they_start_from_whatever_the_order_in_the_file():
    stages = {"last": {"kind": "dpo", "from": "mid"}, "mid": {"kind": "sft", "from": "first"}, "first": {"kind": "sft"}}
    study, found = build({"name": "x", "stages": stages, "verticals": {"ethics": None}})
    assert not found and study.order() == ["first", "mid", "last"]


def test_a_key_given_twice_is_a_mistake(write):
    assert problems(write(GOOD + "name: other\n")) == ("line 10: name is given twice",)
    assert problems(write(GOOD.replace("beta: 0.1", "beta: 0.1\n    beta: 0.2"))) == (
        "line 7: stages.dpo.beta is given twice",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: [x\nseed: 1", "line 2, column 5: not YAML"),
        ("name: good\n\tseed: 1", "line 2, column 1: not YAML"),
        ("- a\n- b\n", "a study is a mapping of keys"),
        ("", "a study is a mapping of keys"),
        ("name: good\x00", "not YAML"),
        ("name: 2024-13-45\n", "not YAML"),
        ("name: &a {b: *a}\n", "not YAML"),
        ("name: !!python/object/apply:os.system ['true']\n", "line 1, column 7: not YAML"),
    ],
)
def test_what_is_no_yaml_mapping_is_told(write, text, told):
    assert problems(write(text))[0].startswith(told)


def test_files_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(DataError, match=r"no study file .*none\.yaml"):
        read_study(tmp_path / "none.yaml")
    with pytest.raises(DataError, match=r"cannot read the study file .*: Is a directory"):
        read_study(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(DataError, match=r"not UTF-8 text \(byte 9\)"):
        read_study(tmp_path / "latin.yaml")


def test_a_change_replaces_a_setting_and_may_add_one(write):
    said = ["stages.dpo.beta=0.3", "verticals.ethics.limit=7", "seed=5", "stages.sft.learning_rate=1e-3"]
    study = read_study(write(GOOD), said)
    assert (study.stages["dpo"].beta, study.verticals["ethics"].limit, study.seed) == (0.3, 7, 5)
    assert study.stages["sft"].learning_rate == 1e-3 and study.stages["sft"].epochs == 2
    assert read_study(write(GOOD), ["attribute=null"]).attributed() == []


def test_a_wrong_change_is_told_with_the_change_as_its_place(write):
    assert problems(write(GOOD), ["seed"]) == ("--set seed: write key=value, such as --set stages.dpo.beta=0.2",)
    assert problems(write(GOOD), ["=1"])[0].startswith("--set =1: write key=value")
    assert problems(write(GOOD), ["seed=[1"]) == ("--set seed=[1: the value is not YAML",)
    found = problems(write(GOOD), ["stages.dpo.betta=1", "sead=2"])
    assert [p.split(": unknown key")[0] for p in found] == [
        "--set stages.dpo.betta=1: stages.dpo.betta",
        "--set sead=2: sead",
    ]


def test_relative_paths_are_meant_from_beside_the_file(tmp_path, write, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "pairs.jsonl").write_text("{}")
    text = GOOD.replace("name: good", "name: good\nmodel: model\npreferences: {source: columns, path: pairs.jsonl}")
    text = text.replace("  ethics:\n", "  truthfulness: {source: truthfulqa, path: elsewhere.json}\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    study = read_study(write(text))
    assert study.model == str(tmp_path / "model") and study.preferences.path == str(tmp_path / "pairs.jsonl")
    assert study.verticals["truthfulness"].path == "elsewhere.json"
