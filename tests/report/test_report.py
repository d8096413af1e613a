import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from preftrace import artifacts, progress
from preftrace.errors import ArtifactError
from preftrace.registry import SECTIONS
from preftrace.report import page, write
from preftrace.report.sections import answers, recovery, summary
from preftrace.report.view import RunView

STAGES = ["base", "sft", "dpo"]
VIEWED = ("summary", "verticals", "groups", "answers", "influence", "recovery")
VERTICALS = ["ethics", "privacy", "stereotypes", "toxicity", "truthfulness"]
VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = (
    "<script>alert(1)</script>]]><img src=x onerror=alert(2)><!--</p></details>{{ 7*7 }}{% raw %}"
    "\u202eevil\u202c \x00\x07\x1b[31m \u2028 \u200b \"quoted\" 'single' &amp; http://example.com/x.js "
)


class Page(HTMLParser):
    """Tags in order, with a check that they nest, and the visible text."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.text = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def named(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


def read(path):
    html = path.read_text(encoding="utf-8")
    parsed = Page(html)
    assert not parsed.open
    return html, parsed


@pytest.fixture(scope="session")
def shown(finished, tmp_path_factory):
    return read(write(finished, tmp_path_factory.mktemp("out") / "report.html"))


@pytest.fixture(scope="session")
def hostile(make_run, tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("runs") / "hostile", HOSTILE + "x" * 10_000)
    return read(write(run))


def assert_self_contained(html, parsed):
    assert not parsed.named("script")
    assert not parsed.named("link")
    assert not parsed.named("img")
    assert not parsed.named("iframe")
    for tag, attrs in parsed.tags:
        assert not [name for name in attrs if name.startswith("on")], (tag, attrs)
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert attrs.get(name, "#").startswith("#"), (tag, attrs)
        assert "http" not in attrs.get("style", "")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_every_section_is_there_in_order(shown):
    _, parsed = shown
    ids = [attrs["id"] for attrs in parsed.named("section")]
    assert ids == [*VIEWED, "fidelity", "training", "data", "study"]
    assert sorted(ids) == SECTIONS.names()
    assert [attrs["href"] for attrs in parsed.named("a")] == [f"#{name}" for name in ids]


def test_page_needs_nothing_from_elsewhere(shown):
    html, parsed = shown
    assert_self_contained(html, parsed)
    assert "http" not in html.replace("http-equiv", "")


def test_hostile_texts_stay_texts(hostile):
    html, parsed = hostile
    assert_self_contained(html, parsed)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;]]&gt;" in html
    assert "{{ 7*7 }}" in html
    assert "<script>alert(1)</script>]]><img src=x onerror=alert(2)>" in parsed.words


def test_hidden_characters_are_shown(hostile):
    html, parsed = hostile
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200b]", html)
    for code in ("<U+202E>", "<U+0000>", "<U+001B>", "<U+2028>", "<U+200B>"):
        assert code in parsed.words


def test_long_texts_are_clipped_with_the_whole_below(hostile):
    _, parsed = hostile
    assert re.search(r"All 10,\d\d\d characters", parsed.words)
    assert sum(text.count("x" * 10_000) for text in parsed.text) > 10


def test_summary_says_in_words_what_happened(shown, finished):
    _, parsed = shown
    row = RunView(finished).comparison("privacy", "base", "dpo")
    low, high = -row["high"], -row["low"]
    said = f"worse after DPO : trust fell by {-row['difference']:.2f} (95% interval {low:.2f} to {high:.2f})."
    assert f"Privacy: {said}" in parsed.words
    assert "Ethics: no change found after DPO" in parsed.words


@pytest.mark.parametrize(("share", "told"), [(0.83, ["PPO 83%"]), (0.1, ["PPO 10%"]), (0.09, []), (None, [])])
def test_summary_says_which_stages_fell_silent(monkeypatch, finished, share, told):
    view = RunView(finished)
    empty = {"empty_rate": {"value": share}} if share is not None else {}
    found = view.evaluations["privacy"]
    silent = replace(found["sft"], summary={"metrics": empty})
    monkeypatch.setitem(view.evaluations, "privacy", {"base": found["base"], "ppo": silent, "dpo": found["dpo"]})

    said = {f["name"]: f["silent"] for f in summary.findings(view)}
    assert said.pop("Privacy") == told and not any(said.values())
    assert ("Empty answers: PPO" in summary.render(view)) == bool(told)


def test_charts_are_drawn_and_described(shown):
    _, parsed = shown
    drawn = [attrs["aria-label"] for attrs in parsed.named("svg")]
    assert len(drawn) == 2 * len(VERTICALS) + 2 + 2 + 7 + len(STAGES)
    assert all(attrs["role"] == "img" for attrs in parsed.named("svg"))
    assert any(label.startswith("Leak rate (lower is better): base 0.") for label in drawn)


def test_tables_have_scoped_headers(shown):
    _, parsed = shown
    assert parsed.named("th")
    assert all(attrs.get("scope") in ("col", "row") for attrs in parsed.named("th"))


def test_colours_of_charts_have_a_dark_counterpart(shown):
    html, _ = shown
    dark = html[html.index("prefers-color-scheme: dark") : html.index("</style>")]
    used = set(re.findall(r'(fill|stroke)="(#[0-9a-f]{6})"', html[html.index("</style>") :]))
    assert used
    assert [pair for pair in used if f'[{pair[0]}="{pair[1]}"]' not in dark] == []


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_contrast_is_at_least_four_and_a_half_in_both_themes(shown):
    html, _ = shown
    style = html[html.index("<style>") : html.index("</style>")]
    themes = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", part)) for part in re.findall(r":root \{(.*?)\}", style, re.S)
    ]
    assert len(themes) >= 2
    for theme in themes[:2]:
        theme = {k: v if len(v) == 7 else "#" + "".join(c * 2 for c in v[1:]) for k, v in theme.items()}
        on = [("ink", "paper"), ("muted", "paper"), ("accent", "paper"), ("good", "good-soft"), ("bad", "bad-soft")]
        on += [("warn", "warn-soft"), ("muted", "soft"), ("ink", "plain-soft"), ("bad", "paper"), ("good", "paper")]
        for front, back in on:
            light, dark = sorted((luminance(theme[front]), luminance(theme[back])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (front, back)


def test_recovery_says_plainly_when_it_does_not_beat_chance(shown):
    _, parsed = shown
    assert "identity is better than chance at finding the 3 planted pairs: AUC 0.81" in parsed.words
    assert "datainf is no better than chance at finding the 3 planted pairs: AUC 0.51" in parsed.words


def test_recovery_compares_influence_with_the_best_baseline(shown):
    _, parsed = shown
    assert (
        "No influence method beats the best baseline at finding the planted pairs: AUC 0.810 for identity, 0.870 for "
        "length. The difference is not tested." in parsed.words
    )
    assert "identity beats every baseline at finding the planted pairs: AUC 0.810 for identity, 0.620" in parsed.words
    assert "length baseline" in parsed.words and "identity baseline" not in parsed.words


@pytest.mark.parametrize(
    ("aucs", "words"),
    [
        ({"identity": 0.6, "bm25": 0.6}, "No influence method beats the best baseline"),
        ({"identity": 0.4, "datainf": 0.7, "bm25": 0.6, "random": 0.2}, "datainf beats every baseline"),
        ({"identity": 0.7, "bm25": math.nan}, ""),
        ({"identity": math.nan, "bm25": 0.6}, ""),
        ({"identity": 0.7}, ""),
    ],
)
def test_influence_has_to_beat_the_best_baseline(aucs, words):
    rows = [{"method": method, "auc": auc} for method, auc in aucs.items()]
    found = recovery.against(rows, ("bm25", "random"))
    assert found.startswith(words) and bool(found) == bool(words)


@pytest.mark.parametrize(
    ("auc", "p", "words"),
    [(0.8, 0.01, "better than chance"), (0.8, 0.2, "no better than chance"), (0.3, 0.01, "no better than chance")],
)
def test_recovery_verdict(auc, p, words):
    assert recovery.verdict({"auc": auc, "p": p, "random_auc": 0.5}) == words
    assert recovery.verdict({"auc": math.nan, "p": math.nan, "random_auc": 0.5}) == "cannot be told"


def test_missing_scores_are_said_not_zeroed(shown):
    _, parsed = shown
    assert "(1 missing)" in parsed.words
    assert "No pair could be scored (n/a)." in parsed.words
    assert "nan" not in re.findall(r"\w+", parsed.words.lower())


def test_influence_shows_the_ends_of_each_ranking(shown):
    _, parsed = shown
    assert "Rank 1 of 24" in parsed.words
    assert "Rank 24 of 24" in parsed.words
    assert "planted: privacy" in parsed.words
    assert "By datainf" in parsed.words
    assert "By length" not in parsed.words and "length is" not in parsed.words


def test_items_shown_are_those_that_changed_most():
    """Changes -0.4, -0.1, 0, +0.3, +0.5, NaN: two each way and the calm one; the missing one never."""
    first = [{"item_id": f"i{k}", "trust": 0.5} for k in range(6)]
    last = [{"item_id": f"i{k}", "trust": t} for k, t in enumerate([0.1, 0.4, 0.5, 0.8, 1.0, math.nan])]
    picked = [(why, row["item_id"]) for why, row, _ in answers.chosen_items(first, last)]
    assert picked == [
        ("Trust fell", "i0"),
        ("Trust fell", "i1"),
        ("Trust rose", "i4"),
        ("Trust rose", "i3"),
        ("Trust changed least", "i2"),
    ]


def test_option_shares_by_hand():
    """exp(-1), exp(-2) shared: 1 / (1 + e^-1) = 0.7311."""
    rows = [{"item_id": "i", "option": o, "logprob": -1.0 - o, "text": "t", "good": True} for o in range(2)]
    assert answers.shares(rows, "i") == pytest.approx({0: 0.7311, 1: 0.2689}, abs=1e-4)
    rows[0]["logprob"] = math.nan
    assert answers.shares(rows, "i") == {}


def test_writing_twice_gives_the_same_bytes(finished, tmp_path):
    a, b = write(finished, tmp_path / "a.html"), write(finished, tmp_path / "b.html")
    assert a.read_bytes() == b.read_bytes()


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_a_half_finished_run_says_what_is_missing(copy):
    for gone in ("compare", "attribute", "align/dpo", "evaluate/dpo", "evaluate/sft/privacy"):
        shutil.rmtree(copy / gone)
    (copy / "evaluate" / "sft" / "privacy.partial").mkdir()
    _, parsed = read(write(copy))
    assert "This run is not finished" in parsed.words
    assert "evaluate/sft/privacy begun" in parsed.words
    for name in ("align/dpo", "evaluate/dpo/ethics", "compare", "attribute/sft"):
        assert name in parsed.words
    assert "influence" not in [attrs["id"] for attrs in parsed.named("section")]


@pytest.mark.parametrize("kept", ["pairs", "align", "evaluate", "compare", "attribute", "study.yaml"])
def test_every_section_does_without_the_other_data(copy, kept):
    for path in copy.iterdir():
        if path.name != kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    _, parsed = read(write(copy))
    assert "could not be made" not in parsed.words
    assert "summary" in [attrs["id"] for attrs in parsed.named("section")]


def test_no_stages_named_means_that_every_trained_stage_is_attributed(copy):
    study = (copy / "study.yaml").read_text().replace("stages: [sft, dpo], ", "stages: null, ")
    (copy / "study.yaml").write_text(study)
    shutil.rmtree(copy / "attribute" / "sft")
    assert RunView(copy).missing == ["attribute/sft"]


def test_a_finished_run_is_missing_nothing(finished):
    view = RunView(finished)
    assert view.missing == view.unfinished == []
    assert view.stages == STAGES
    assert list(view.evaluations) == VERTICALS


def test_a_section_that_fails_is_seen(finished, tmp_path, monkeypatch, capsys):
    def fail(run):
        raise KeyError("no such <column>")

    monkeypatch.setattr(summary, "render", fail)
    monkeypatch.setattr(progress, "quiet", False)
    html, parsed = read(write(finished, tmp_path / "r.html"))
    assert "This section could not be made. KeyError: 'no such <column>'" in parsed.words
    assert "no such <column>" not in html
    assert "section 'summary' could not be made" in capsys.readouterr().err


def test_sections_come_by_order_and_name(monkeypatch):
    modules = {
        n: SimpleNamespace(TITLE=n, ORDER=o, render=lambda run: "x") for n, o in {"a": 9, "c": 1, "b": 1}.items()
    }
    modules["empty"] = SimpleNamespace(TITLE="e", ORDER=0, render=lambda run: "")
    monkeypatch.setattr(page, "SECTIONS", SimpleNamespace(names=lambda: list(modules), load=modules.__getitem__))
    assert [s.name for s in page.sections(None)] == ["b", "c", "a"]


def test_a_folder_that_is_no_run_is_a_user_error(tmp_path):
    with pytest.raises(ArtifactError, match="no study and no finished stage"):
        write(tmp_path)


def test_a_place_that_cannot_be_written_is_a_user_error(finished, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="cannot write"):
        write(finished, tmp_path / "file" / "report.html")


def test_records_are_only_read(copy):
    before = {p: artifacts.hash_file(p) for p in copy.rglob("*") if p.is_file()}
    write(copy)
    after = {p: artifacts.hash_file(p) for p in copy.rglob("*") if p.is_file() and p.name != "report.html"}
    assert before == after
    assert json.loads((copy / "compare" / "record.json").read_text())["kind"] == "compare"


def test_what_the_study_no_longer_names_is_not_reported(finished, tmp_path):
    """A stage and a vertical taken out of the study leave their folders behind, and nothing else."""
    import yaml

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    study = yaml.safe_load((run / "study.yaml").read_text())
    gone_stage, gone_vertical = [*study["stages"]][-1], next(iter(study["verticals"]))
    del study["stages"][gone_stage], study["verticals"][gone_vertical]
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    view = RunView(run)
    assert gone_stage not in view.stages and gone_stage not in view.trained
    assert gone_vertical not in view.evaluations
    assert view.evaluations
