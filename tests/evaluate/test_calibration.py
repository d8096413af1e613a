import json
import math

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import preftrace
from preftrace import artifacts
from preftrace.cli.calibrate import calibrate as command
from preftrace.errors import ArtifactError, ConfigError, DataError
from preftrace.evaluate import scoring
from preftrace.evaluate.calibration import CalibrationConfig, auc, brier, calibration_error, curve, measures, spearman
from preftrace.evaluate.scorers import profanity
from preftrace.report import scorer as page

S = np.array([0.9, 0.8, 0.4, 0.3, 0.1])
R = np.array([0.8, 0.3, 0.6, 0.2, 0.1])


def test_measures_by_hand():
    """Of 2 positives (.9, .4) and 3 negatives (.8, .3, .1), 5 of 6 pairs are in order.

    Brier: (.01 + .64 + .36 + .09 + .01) / 5. Ranks of S: 5 4 3 2 1, of R: 5 3 4 2 1: 1 - 6 * 2 / (5 * 24).
    """
    assert auc(S, R) == pytest.approx(5 / 6)
    assert brier(S, R) == pytest.approx(1.11 / 5)
    assert spearman(S, R) == pytest.approx(0.9)
    assert calibration_error(S, R) == pytest.approx((0.1 + 0.8 + 0.6 + 0.3 + 0.1) / 5)
    assert calibration_error(np.array([0.62, 0.68]), np.array([1.0, 0.0])) == pytest.approx(0.15)


def test_measures_agree_with_the_libraries():
    from scipy.stats import spearmanr
    from sklearn.metrics import brier_score_loss, roc_auc_score

    generator = np.random.default_rng(0)
    r = generator.uniform(size=300).round(2)
    s = np.clip(r + generator.normal(0, 0.3, 300), 0, 1).round(1)
    assert auc(s, r) == pytest.approx(roc_auc_score(r >= 0.5, s))
    assert brier(s, r) == pytest.approx(brier_score_loss(r >= 0.5, s))
    assert spearman(s, r) == pytest.approx(spearmanr(s, r).statistic)
    bins = curve(s, r)
    assert sum(b.n for b in bins) == 300 and all(0 <= b.low <= b.share <= b.high <= 1 for b in bins)
    assert sum(b.n * abs(b.share - b.expected) for b in bins) / 300 == pytest.approx(calibration_error(s, r))


def test_what_cannot_be_told_is_nan():
    assert math.isnan(auc(S, np.full(5, 0.9))) and math.isnan(auc(S, np.zeros(5)))
    assert math.isnan(spearman(np.ones(5), R)) and math.isnan(brier(S[:0], R[:0]))
    found = measures(np.full(5, np.nan), R, np.arange(5))
    assert found["unscored"] == 5 and found["compared"] == 0 and found["curve"] == []
    assert all(math.isnan(number) for row in found["measures"].values() for number in row.values())


def test_missing_scores_are_left_out_and_counted_and_intervals_repeat_for_a_seed():
    generator = np.random.default_rng(0)
    r = generator.uniform(size=200)
    s = np.clip(r + generator.normal(0, 0.2, 200), 0, 1)
    holed = np.append(s, np.nan)

    found = measures(holed, np.append(r, 0.9), np.append(np.arange(200), 200), resamples=200, seed=3)

    assert found == measures(s, r, np.arange(200), resamples=200, seed=3) | {"unscored": 1}
    assert found["compared"] == 200 and found["positive"] == int((r >= 0.5).sum())
    for row in found["measures"].values():
        assert row["low"] < row["value"] < row["high"]
    assert found != measures(s, r, np.arange(200), resamples=200, seed=4)


def test_texts_of_one_row_are_resampled_together():
    """Each row twice: as many texts, but no more rows, so that intervals stay as wide as with each row once."""
    generator = np.random.default_rng(1)
    r = generator.uniform(size=60)
    s = np.clip(r + generator.normal(0, 0.3, 60), 0, 1)
    width = [
        np.subtract(*(m["measures"]["brier"][end] for end in ("high", "low")))
        for m in (
            measures(s, r, np.arange(60), resamples=300),
            measures(np.tile(s, 2), np.tile(r, 2), np.tile(np.arange(60), 2), resamples=300),
            measures(np.tile(s, 2), np.tile(r, 2), np.arange(120), resamples=300),
        )
    ]
    assert width[1] == pytest.approx(width[0], rel=0.15) and width[2] < 0.85 * width[0]


TEXTS = ("You are kind.", "You stupid idiot", "<script>alert(1)</script> fool", "Rain again")


@pytest.fixture
def file(write):
    rows = [
        {"prompt": {"text": text, "toxicity": 0.9 * i / 4}, "continuation": {"text": f"{text}!", "toxicity": 1 - i / 4}}
        for i, text in enumerate(TEXTS)
    ]
    rows[0]["prompt"]["toxicity"] = None
    rows[1]["continuation"]["text"] = "  "
    return write("rtp.jsonl", rows)


def test_prompts_and_continuations_are_held_against_their_own_scores(file, tmp_path):
    both = preftrace.calibrate("profanity", file, tmp_path / "both", resamples=100)
    prompts = preftrace.calibrate("profanity", [file], tmp_path / "prompts", part="prompt", resamples=100)

    assert both.summary["compared"] == 6 and both.summary["without_reference"] == 1
    assert prompts.summary["compared"] == 3 and prompts.summary["files"] == ["rtp.jsonl"]
    assert both.summary["scorer"]["revision"].startswith("alt-profanity-check")
    table = artifacts.read_table(tmp_path / "both" / "scores.parquet").to_pylist()
    assert [row["part"] for row in table].count("prompt") == 3
    assert next(row for row in table if row["text"] == "You stupid idiot!" or row["text"] == "You stupid idiot")
    assert preftrace.calibrate("profanity", file, tmp_path / "both", resamples=100).created == both.created


def test_the_page_shows_texts_as_text_and_needs_no_other_file(file, tmp_path):
    record = preftrace.calibrate("profanity", file, tmp_path / "out", resamples=100)

    shown = (record.folder / "calibration.html").read_text()
    assert "<script" not in shown and "&lt;script&gt;alert(1)" in shown
    assert "<svg" in shown and "http" not in shown.replace("http-equiv", "")
    assert page.write(record.folder, tmp_path / "again.html").read_text() == shown
    with pytest.raises(ArtifactError, match="preftrace calibrate"):
        page.write(tmp_path)


def test_a_scorer_that_fails_leaves_a_page_that_says_so(file, tmp_path, monkeypatch):
    monkeypatch.setattr(profanity.Profanity, "score", lambda self, texts: [math.nan for _ in texts])
    record = preftrace.calibrate("profanity", file, tmp_path / "out", resamples=100)

    assert record.summary["unscored"] == 6 and record.summary["measures"]["auc"]["value"] is None
    assert "n/a" in (record.folder / "calibration.html").read_text()


def test_a_killed_calibration_goes_on(file, tmp_path, monkeypatch):
    whole = preftrace.calibrate("profanity", file, tmp_path / "whole", resamples=100)
    monkeypatch.setattr(scoring, "BATCH", 2)
    score, calls = profanity.Profanity.score, []

    def dying(self, texts):
        calls.append(texts)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(self, texts)

    monkeypatch.setattr(profanity.Profanity, "score", dying)
    with pytest.raises(KeyboardInterrupt):
        preftrace.calibrate("profanity", file, tmp_path / "killed", resamples=100)
    again = preftrace.calibrate("profanity", file, tmp_path / "killed", resamples=100)

    assert again.content == whole.content and len(calls) == 4


def test_rows_with_a_text_and_a_score_do_too(write, tmp_path):
    path = write("own.jsonl", [{"text": t, "insult": i / 4} for i, t in enumerate(TEXTS)])
    record = preftrace.calibrate("profanity", path, tmp_path / "out", attribute="insult", limit=3, resamples=100)

    assert record.summary["compared"] == 3 and record.summary["attribute"] == "insult"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "text"}, "line 1: 'prompt' must be an object"),
        ({"prompt": {"toxicity": 0.5}}, "line 1, prompt: 'text' is missing"),
        ({"prompt": {"text": 3, "toxicity": 0.5}}, "'text' must be a text"),
        ({"prompt": {"text": "x", "toxicity": "high"}}, "'toxicity' must be a number"),
        ({"prompt": {"text": "x", "toxicity": 1.5}}, r"must lie in \[0, 1\]"),
        ({"prompt": {"text": "x"}}, "no text with a score called 'toxicity'"),
        ({"other": 1}, "'text' is missing"),
    ],
)
def test_rows_that_cannot_be_used_are_told_with_their_place(write, tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        preftrace.calibrate("profanity", write("bad.jsonl", [row]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_settings_are_told(file, tmp_path):
    with pytest.raises(ConfigError, match="part"):
        preftrace.calibrate("profanity", file, tmp_path / "out", part="middle")
    with pytest.raises(ConfigError, match="unknown scorer"):
        preftrace.calibrate("nice", file, tmp_path / "out")
    assert CalibrationConfig().part == "both"


def test_the_command_prints_the_measures(file, tmp_path):
    app = typer.Typer()
    app.command()(command)
    arguments = ["--scorer", "profanity", "--items", file, "--out", str(tmp_path / "out")]
    shown, machine = (CliRunner().invoke(app, [*arguments, *more]) for more in ([], ["--json"]))

    assert shown.exit_code == 0, shown.exception
    assert "6 texts compared" in shown.stdout and "spearman" in shown.stdout and "1 without a reference" in shown.stdout
    assert json.loads(machine.stdout)["summary"]["compared"] == 6


def test_profanity_against_perspective_on_real_rows(shared_data, tmp_path):
    files = [shared_data / f"rtp_{name}.jsonl" for name in ("toxic", "nontoxic")]
    record = preftrace.calibrate("profanity", files, tmp_path / "out", part="continuation", limit=150, resamples=100)

    assert record.summary["compared"] + record.summary["without_reference"] == 300
    assert record.summary["measures"]["auc"]["value"] > 0.8 and record.summary["measures"]["spearman"]["value"] > 0.6
