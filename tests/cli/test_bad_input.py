"""Every bad input gives its one message on standard error and exit code 2, and writes nothing.

A case is what stands on disk, the command, and what the message must say. Everything goes through the real entry
point; a few go through a real process too.
"""

import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from safetensors.numpy import save_file

from preftrace import artifacts, progress
from preftrace.cli import main
from preftrace.errors import ConfigError
from tests.tiny_study import snapshot

PAIR = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}
STUDY = "name: s\nmodel: {model}\nstages:\n  sft: {{}}\nverticals:\n  ethics: {{limit: 3}}\n"


@dataclass
class Place:
    """Where a case is set up: `home` is the current folder, `model` a model that loads."""

    home: object
    model: object

    def write(self, name, content):
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def study(self, model=None):
        return self.write("s.yaml", STUDY.format(model=model or self.model))

    def pairs(self, rows=(PAIR,), name="p.jsonl"):
        return self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def model_without(self, *names):
        shutil.copytree(self.model, self.home / "broken")
        for name in names:
            (self.home / "broken" / name).unlink()
        return "broken"

    def other_model(self):
        shutil.copytree(self.model, self.home / "other")
        tensors = artifacts.read_tensors(self.home / "other" / "model.safetensors")
        save_file(
            {name: -x for name, x in tensors.items()}, self.home / "other" / "model.safetensors", {"format": "pt"}
        )

    def study_with(self, old, new):
        text = STUDY.format(model=self.model)
        assert old in text
        self.write("s.yaml", text.replace(old, new))


@dataclass
class Case:
    """One bad input."""

    name: str
    command: str
    told: str
    setup: Callable = lambda place: None


def preferences(text):
    return lambda place: place.study_with("stages:", f"preferences: {text}\nstages:")


def after(*steps):
    return lambda place: [step(place) for step in steps]


def other_run(place):
    place.write("run/run.json", '{"name": "x", "seed": 0}')
    place.write("run/study.yaml", "name: x\n")


def trained_run(place, stage):
    """A run folder with a study of one stage, and nothing done yet."""
    other_run(place)
    place.write("run/study.yaml", f"name: s\nmodel: {place.model}\nstages:\n  {stage}\nverticals:\n  ethics:\n")


THREE = "name: s\nseed: -1\nstages:\n  sft: {epoch: 1}\nverticals:\n  ethiks:\n"
RUN = "run s.yaml --out run"
GZIPPED = gzip.compress((json.dumps(PAIR) + "\n").encode() * 50)

CASES = [
    # the study file
    Case("no study file", "run none.yaml --out run", r"no study file none\.yaml\. Give a YAML file"),
    Case("study is a folder", "run . --out run", r"cannot read the study file \.: Is a directory"),
    Case(
        "study is not UTF-8",
        RUN,
        r"s\.yaml is not UTF-8 text \(byte 9\)",
        lambda p: p.write("s.yaml", b"name: caf\xe9"),
    ),
    Case(
        "YAML syntax",
        RUN,
        r"in s\.yaml:\n  - line 3, column 5: not YAML",
        lambda p: p.write("s.yaml", "name: s\nstages: [sft\nseed: 0\n"),
    ),
    Case("empty study", RUN, r"in s\.yaml:\n  - a study is a mapping of keys", lambda p: p.write("s.yaml", "")),
    Case(
        "three mistakes",
        RUN,
        r"3 problems in s\.yaml:(?=[^$]*line 2: seed: )(?=[^$]*line 4: stages\.sft\.epoch: unknown key; known: )"
        r"(?=[^$]*line 6: verticals\.ethiks: unknown vertical 'ethiks'; known: bbq, ethics, )",
        lambda p: p.write("s.yaml", THREE),
    ),
    Case(
        "unknown vertical",
        RUN,
        r"line 6: verticals\.robustness: unknown vertical 'robustness'; known: bbq, ethics, preferences,",
        lambda p: p.study_with("ethics", "robustness"),
    ),
    Case(
        "unknown stage kind",
        RUN,
        r"line 4: stages\.orpo: unknown stage kind 'orpo'; known: dpo, ppo, reward, rloo, sft",
        lambda p: p.study_with("sft:", "orpo:"),
    ),
    Case(
        "unknown method",
        RUN,
        r"line 3: attribute\.methods: unknown influence method 'magic'; known: datainf, ekfac, .*, identity",
        lambda p: p.study_with("stages:", "attribute: {methods: [magic]}\nstages:"),
    ),
    Case(
        "unknown baseline",
        RUN,
        r"line 3: attribute\.baselines: unknown baseline 'tfidf'; known: activation, bm25, embedding, length, random",
        lambda p: p.study_with("stages:", "attribute: {baselines: [tfidf]}\nstages:"),
    ),
    Case(
        "unknown scorer",
        RUN,
        r"line 6: verticals\.toxicity\.scorer: unknown scorer 'nice'; known: guard, hf, http, .*profanity",
        lambda p: p.study_with("ethics: {limit: 3}", "toxicity: {scorer: nice}"),
    ),
    Case(
        "unknown source",
        RUN,
        r"line 3: preferences\.source: unknown preference source 'hhh'; known: columns, hh, messages, starter",
        preferences("{source: hhh, path: p.jsonl}"),
    ),
    Case(
        "limit of 0", RUN, r"line 6: verticals\.ethics\.limit: .* got 0", lambda p: p.study_with("limit: 3", "limit: 0")
    ),
    Case("seed of -1", RUN, r"line 3: seed: .* got -1", lambda p: p.study_with("stages:", "seed: -1\nstages:")),
    Case("--set without =", f"{RUN} --set seed", r"--set seed: write key=value", lambda p: p.study()),
    Case(
        "--set of an unknown key",
        f"{RUN} --set stages.sft.epoch=2",
        r"--set stages\.sft\.epoch=2: stages\.sft\.epoch: unknown key; known: .*epochs",
        lambda p: p.study(),
    ),
    Case("--set that is no YAML", f"{RUN} --set seed=[", r"--set seed=\[: the value is not YAML", lambda p: p.study()),
    # the model
    Case(
        "model without weights",
        RUN,
        r"broken has no \*\.safetensors weights",
        after(lambda p: p.model_without("model.safetensors"), lambda p: p.study(model="broken")),
    ),
    Case(
        "model without config",
        RUN,
        r"broken is not a model folder: it has no config\.json",
        after(lambda p: p.model_without("config.json"), lambda p: p.study(model="broken")),
    ),
    Case(
        "pickled weights only",
        RUN,
        r"broken has no \*\.safetensors weights\. .* pickled weights are not read",
        after(
            lambda p: p.model_without("model.safetensors"),
            lambda p: p.write("broken/pytorch_model.bin", b"\x80\x02}q."),
            lambda p: p.study(model="broken"),
        ),
    ),
    Case(
        "weights that break off",
        "evaluate broken --vertical ethics --limit 2 --out run",
        r"cannot load the model '.*broken'",
        after(
            lambda p: p.model_without("model.safetensors"), lambda p: p.write("broken/model.safetensors", b"\x10\x00")
        ),
    ),
    Case(
        "name that is no model",
        RUN,
        r"no model 'gpt17': it is not an existing folder",
        lambda p: p.study(model="gpt17"),
    ),
    Case(
        "chat without a template",
        f"{RUN} --set format=chat",
        r"format 'chat' needs a chat template and the tokenizer of '.*broken' has none; use format: raw",
        after(lambda p: p.model_without("chat_template.jinja"), lambda p: p.study(model="broken")),
    ),
    # the pairs
    Case("no pairs file", RUN, r"none\.jsonl: no such file", preferences("{source: columns, path: none.jsonl}")),
    Case(
        "half a gzip member",
        RUN,
        r"p\.jsonl\.gz, line \d+: the gzip data breaks off here",
        after(lambda p: p.write("p.jsonl.gz", GZIPPED[:-20]), preferences("{source: columns, path: p.jsonl.gz}")),
    ),
    Case(
        "bad JSON on line 3",
        RUN,
        r"p\.jsonl, line 3, column 1: not JSON",
        after(
            lambda p: p.write("p.jsonl", f"{json.dumps(PAIR)}\n\noops\n"),
            preferences("{source: columns, path: p.jsonl}"),
        ),
    ),
    Case(
        "wrong columns",
        RUN,
        r"p\.jsonl, line 1: no column 'prompt'; columns there: question, chosen, rejected",
        after(
            lambda p: p.pairs([{"question": "Hi", "chosen": "a", "rejected": "b"}]),
            preferences("{source: columns, path: p.jsonl}"),
        ),
    ),
    Case(
        "empty pair file",
        RUN,
        r"p\.jsonl is empty \(0 bytes\)",
        after(lambda p: p.pairs([]), preferences("{source: columns, path: p.jsonl}")),
    ),
    Case(
        "CSV without a header",
        RUN,
        r"p\.csv, line 2: no column 'prompt'; columns there: Hi, Hello, Go",
        after(lambda p: p.write("p.csv", "Hi,Hello,Go\nTea,Yes,No\n"), preferences("{source: columns, path: p.csv}")),
    ),
    Case(
        "not Parquet",
        RUN,
        r"p\.parquet, row 0: not sound Parquet",
        after(lambda p: p.write("p.parquet", "PAR2"), preferences("{source: columns, path: p.parquet}")),
    ),
    Case(
        "no pair left",
        RUN,
        r"no pair is left to train on: 1 read, 1 dropped",
        after(
            lambda p: p.pairs([{**PAIR, "rejected": PAIR["chosen"]}]), preferences("{source: columns, path: p.jsonl}")
        ),
    ),
    Case("pairs check of nothing", "pairs check none.jsonl", r"none\.jsonl: no such file"),
    Case(
        "pairs check of an unknown source",
        "pairs check p.jsonl --source hhh",
        r"unknown preference source 'hhh'; known: columns",
        lambda p: p.pairs(),
    ),
    # the items
    Case(
        "no item file",
        RUN,
        r"none\.json: no such file\. It is needed by source 'truthfulqa' of truthfulness",
        lambda p: p.study_with("ethics: {limit: 3}", "truthfulness: {source: truthfulqa, path: none.json}"),
    ),
    Case(
        "item file of wrong columns",
        "evaluate {model} --vertical privacy --source jsonl --path i.jsonl --out run",
        r"i\.jsonl, line 1: 'kind' is missing; the row needs it and has: colour",
        lambda p: p.pairs([{"colour": "red"}], "i.jsonl"),
    ),
    Case(
        "evaluate an unknown vertical",
        "evaluate {model} --vertical x --out run",
        r"unknown vertical 'x'; known: bbq, ethics",
    ),
    Case(
        "evaluate with an unknown setting",
        "evaluate {model} --vertical toxicity --out run --set smples=3",
        r"toxicity: smples: unknown key; known: .*; did you mean samples\?",
    ),
    Case(
        "evaluate with three mistakes",
        "evaluate {model} --vertical ethics --vertical x --format xml --set sampels=3 --out run",
        r"3 problems in the options:(?=[^$]*--format 'xml')(?=[^$]*unknown vertical 'x')(?=[^$]*ethics: sampels)",
    ),
    Case("evaluate no model", "evaluate nothing --vertical ethics --out run", r"no model 'nothing'"),
    # folders
    Case(
        "out below a file", "run s.yaml --out s.yaml/x", r"cannot write the run folder s\.yaml/x", lambda p: p.study()
    ),
    Case(
        "out below a device",
        "run s.yaml --out /dev/null/x",
        r"cannot write the run folder /dev/null/x",
        lambda p: p.study(),
    ),
    Case(
        "out is a file",
        "run s.yaml --out s.yaml",
        r"s\.yaml is a file\. Name a folder for the run",
        lambda p: p.study(),
    ),
    Case(
        "out holds something else",
        RUN,
        r"run is not empty and no run folder; nothing was written",
        after(lambda p: p.study(), lambda p: p.write("run/thesis.tex", "years")),
    ),
    Case(
        "evaluate into a file",
        "evaluate {model} --vertical ethics --limit 2 --out taken",
        r"cannot write taken/tiny/ethics\.partial",
        lambda p: p.write("taken", "x"),
    ),
    Case(
        "align into something else",
        "align sft p.jsonl --model {model} --out mine",
        r"mine is not empty and holds no record\.json; nothing was written",
        after(lambda p: p.pairs(), lambda p: p.write("mine/x.txt", "x")),
    ),
    Case(
        "compare what is no evaluation",
        "compare a b",
        r"preftrace: a holds no finished evaluation",
        lambda p: p.write("a/x.txt", "x"),
    ),
    Case("compare what is not there", "compare none other", r"preftrace: none holds no finished evaluation"),
    Case(
        "report on no run",
        "report here",
        r"here holds no study and no finished stage",
        lambda p: p.write("here/x", "x"),
    ),
    Case("report on nothing", "report nowhere", r"nowhere holds no study and no finished stage"),
    Case(
        "attribute no run",
        "attribute here sft",
        r"here is not a run folder",
        lambda p: p.write("here/x", "x"),
    ),
    Case(
        "attribute an unknown stage", "attribute run ppo", r"run/evaluate/ppo holds no finished evaluation", other_run
    ),
    Case(
        "show what is no influence",
        "attribute show here",
        r"here holds no influence\. Name a run folder",
        lambda p: p.write("here/x", "x"),
    ),
    Case("layers of nothing", "attribute layers nowhere", r"nowhere holds no influence"),
    # attribute adapted
    Case(
        "attribute what adapt did not make",
        "attribute adapted {model} --pairs p.jsonl --loss dpo --out o",
        r"is no finished stage: name a folder that `preftrace adapt` made",
        lambda p: p.pairs(),
    ),
    Case(
        "attribute an adapted model without pairs",
        "attribute adapted {model} --pairs none.jsonl --loss dpo --out o",
        r"none\.jsonl: no such file",
    ),
    Case(
        "attribute an adapted model by a reward loss",
        "attribute adapted {model} --pairs starter --loss reward --out o",
        r"loss: `preftrace adapt` makes no adapter of a reward model",
    ),
    Case(
        "attribute an adapted model along its training",
        "attribute adapted {model} --pairs starter --loss sft --method ensemble --out o",
        r"methods: 'ensemble' needs checkpoints from the training; an adapted model has none",
    ),
    Case(
        "attribute an adapted model with settings of another vertical",
        "attribute adapted {model} --pairs starter --loss sft --vertical ethics --set privacy.limit=3 --out o",
        r"--set privacy: it is not among the verticals named with --vertical",
    ),
    Case(
        "attribute an adapted model with a vertical of no parts",
        "attribute adapted {model} --pairs starter --loss sft --set ethics=3 --out o",
        r"ethics: must be a mapping of settings, not 3",
    ),
    # doctor
    Case("doctor of no model", "doctor nothing", r"no model 'nothing'"),
    Case("doctor with no adapter", "doctor {model} --adapter here", r"the adapter folder here has no adapter_model"),
    Case("doctor in no precision", "doctor {model} --precision int3", r"unknown precision 'int3'; known: auto,"),
    # validate
    Case("validate no run", "validate here --stage dpo", r"here is not a run folder", lambda p: p.write("here/x", "x")),
    Case("validate a run without a study", "validate run --stage dpo", r"in run/study\.yaml:\n  - ", other_run),
    Case(
        "validate an unknown stage",
        "validate run --stage dpo",
        r"run has no stage 'dpo'; known: sft\.",
        lambda p: trained_run(p, "sft:"),
    ),
    Case(
        "validate without influence",
        "validate run --stage sft",
        r"run/attribute/sft holds no influence of 'sft'\. Run `preftrace attribute run sft` first\.",
        lambda p: trained_run(p, "sft:"),
    ),
    Case(
        "validate a reward model",
        "validate run --stage reward",
        r"'reward' is a reward model, which has no influence of its own: no stage learned from it\.",
        lambda p: trained_run(p, "reward: {from: base}"),
    ),
    Case(
        "validate with two mistakes",
        "validate run --stage dpo --fraction 1.5 --subsets 2",
        r"2 problems:(?=[^$]*subsets: two subsets)(?=[^$]*fraction: .* got 1\.5)",
        other_run,
    ),
    # align
    Case(
        "align an unknown kind",
        "align orpo p.jsonl --out o",
        r"unknown stage kind 'orpo'; known: dpo, ppo, reward, rloo, sft",
        lambda p: p.pairs(),
    ),
    Case("align without pairs", "align sft none.jsonl --model {model} --out o", r"none\.jsonl: no such file"),
    Case("align an unknown key", "align dpo starter --out o --set betta=1", r"betta: unknown key; known: .*beta"),
    Case(
        "align a key of the command",
        "align sft starter --out o --set model=x",
        r"--set model=x: the command takes model itself",
    ),
    Case(
        "align a value that is no YAML",
        "align sft starter --out o --set beta=[",
        r"--set beta=\[: the value is not YAML",
    ),
    Case("align a date that is none", "align sft starter --out o --set epochs=2024-13-45", r"the value is not YAML"),
    Case(
        "align an adapter of no parts",
        "align sft starter --out o --set adapter=3",
        r"must be a mapping of settings, not 3",
    ),
    Case(
        "align a part of a number",
        "align sft starter --out o --set adapter=3 --set adapter.r=2",
        r"--set adapter\.r=2: adapter was set to 3 before",
    ),
    Case(
        "evaluate a date that is none",
        "evaluate {model} --vertical ethics --set limit=2024-13-45 --out o",
        r"--set limit=2024-13-45",
    ),
    Case("align without =", "align sft starter --out o --set beta", r"--set beta: write key=value"),
    Case(
        "adapt to pickled weights",
        "adapt {model} broken --out o",
        r"broken has no \*\.safetensors weights\. .* pickled weights are not read",
        after(
            lambda p: p.model_without("model.safetensors"),
            lambda p: p.write("broken/pytorch_model.bin", b"\x80\x02}q."),
        ),
    ),
    Case("adapt to no model", "adapt {model} nothing --out o", r"no model 'nothing'"),
    Case("adapt without pairs", "adapt {model} {model} --pairs none.jsonl --out o", r"none\.jsonl: no such file"),
    Case("adapt to itself", "adapt {model} {model} --out o", r"are one and the same: there is nothing to adapt"),
    Case(
        "adapt targets that are not there",
        "adapt {model} other --targets nowhere --out o",
        r"targets: Target modules .*nowhere.* not found in the base model",
        lambda p: p.other_model(),
    ),
    Case("align an adapter of rank 0", "align sft starter --out o --set adapter.r=0", r"r: .* got 0"),
    Case("align a part of no mapping", "align sft starter --out o --set epochs.x=1", r"epochs: .* got \{'x': 1\}"),
]


BEGUN = {
    *("model without weights", "model without config", "pickled weights only", "weights that break off"),
    *("name that is no model", "chat without a template", "no pairs file", "half a gzip member", "bad JSON on line 3"),
    *("wrong columns", "empty pair file", "CSV without a header", "not Parquet", "no pair left", "no item file"),
    *("align into something else", "adapt targets that are not there"),
}
"""Faults of data and models, met when the run folder is there already: what was begun may stay, as after a kill."""


@pytest.fixture
def place(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "quiet", True)
    return Place(tmp_path, tiny_folder)


def command(case, place):
    return [word.format(model=place.model) for word in case.command.split()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_bad_input_gives_one_message_and_exit_code_2(case, place, monkeypatch, capsys):
    case.setup(place)
    before = snapshot(place.home)
    monkeypatch.setattr(sys, "argv", ["preftrace", *command(case, place)])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 2
    assert said.err.startswith("preftrace: ") and said.err.count("preftrace: ") == 1
    assert re.search(case.told, said.err), said.err
    assert "Traceback" not in said.err and not said.out
    kept = snapshot(place.home)
    if case.name not in BEGUN:
        assert kept == before
    assert {name: entry for name, entry in kept.items() if name in before} == before
    assert {path.parent.name for path in place.home.rglob(artifacts.RECORD)} <= {"pairs", "mine-pairs"}


NOTHING_WRITTEN = [
    case
    for case in CASES
    if case.name in ("three mistakes", "no study file", "out holds something else", "unknown vertical")
]


@pytest.mark.parametrize("case", NOTHING_WRITTEN, ids=lambda case: case.name.replace(" ", "-"))
def test_in_a_real_process_too_and_nothing_is_written(case, place):
    case.setup(place)
    before = snapshot(place.home)
    words = [sys.executable, "-m", "preftrace", *command(case, place)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and re.search(case.told, done.stderr) and "Traceback" not in done.stderr
    assert not done.stdout and snapshot(place.home) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("run --engine spark", "engine"),
        ("report", "run"),
        ("evaluate", "model"),
        ("compare a b --resamples 3", "resamples"),
        ("align sft starter --out o --seed -1", "seed"),
        ("nonsense", "nonsense"),
        ("attribute a b --top 0", "top"),
        ("attribute adapted a --pairs b --out c", "loss"),
        ("validate a", "stage"),
        ("validate a --stage dpo --workers 0", "workers"),
    ],
)
def test_wrong_options_are_told_by_the_command_line_with_exit_code_2(words, told, place, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["preftrace", *words.split()])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 2 and told in said.err and "Traceback" not in said.err
    assert not list(place.home.iterdir())


def test_there_are_as_many_bad_inputs_as_promised():
    names = {case.name for case in CASES}
    assert len(names) == len(CASES) >= 28 and names >= BEGUN


def test_an_interrupt_says_that_the_work_goes_on_from_here(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("preftrace.cli.app.app", interrupted)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130 and "the same command goes on from here" in capsys.readouterr().err


def test_a_fault_of_our_own_is_not_dressed_up_as_the_users(monkeypatch):
    def broken():
        raise ZeroDivisionError

    monkeypatch.setattr("preftrace.cli.app.app", broken)
    with pytest.raises(ZeroDivisionError):
        main()


def test_one_problem_and_more_are_counted_right():
    assert str(ConfigError(["a"], "x")) == "1 problem in x:\n  - a"
    assert str(ConfigError(["a", "b"])) == "2 problems:\n  - a\n  - b"
