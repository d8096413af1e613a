"""`preftrace pairs check`."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from preftrace.cli.pairs import app
from preftrace.errors import ConfigError, DataError, ModelError
from preftrace.preferences import PreferencesConfig, mark_truncated, measure_pairs, read_pairs, summarise
from preftrace.preferences.check import count_words

ROWS = [{"prompt": "one two", "chosen": "a " * (n + 1), "rejected": "b"} for n in range(5)]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, {**ROWS[0], "rejected": ""}]))
    return path


def check(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)], catch_exceptions=False)


def test_lengths_and_flags_by_hand(path):
    """Chosen has 1, 2, 3, 4, 5 and 1 words: mean 16/6, median 2.5; prompt + answers exceed 6 words in row 4 only."""
    pairs = read_pairs(PreferencesConfig(source="columns", path=str(path)))
    lengths = measure_pairs(pairs, count_words)
    report = summarise("p", "columns", mark_truncated(pairs, lengths, 6), lengths)
    chosen = report.lengths["chosen"]
    assert (chosen.mean, chosen.median, chosen.max) == (pytest.approx(16 / 6), 2.5, 5)
    assert chosen.p95 == pytest.approx(np.percentile([1, 2, 3, 4, 5, 1], 95))
    assert report.lengths["rejected"].mean == pytest.approx(5 / 6)
    rows = {flag: found.rows for flag, found in report.flags.items() if found.count}
    assert rows == {"empty": (5,), "truncated": (4,)}
    assert (report.read, report.unflagged) == (6, 4)
    assert [pair.row for pair in report.examples] == [0, 1]


def test_json_counts_tokens_of_the_named_model(path, tiny_folder):
    """The byte-level tokenizer makes one token of each byte; an answer gets a space before it and an end token.

    Row n: 7 for the prompt and 2 n + 3 for the chosen answer, which exceeds 14 from n = 3 on.
    """
    result = check(path, "--model", tiny_folder, "--max-length", 14, "--json")
    report = json.loads(result.stdout)
    assert report["source"] == "columns"
    assert report["unit"] == f"tokens of {tiny_folder}"
    assert report["lengths"]["prompt"]["max"] == len("one two")
    assert report["lengths"]["chosen"]["max"] == len(" a a a a a") + 1
    assert report["flags"]["truncated"] == {"count": 2, "rows": [3, 4]}
    assert report["examples"][0]["chosen"] == "a"


def test_words_are_counted_with_a_note_where_no_tokenizer_is_at_hand(path, monkeypatch):
    def missing(model, format="raw"):
        raise ModelError("no starter here")

    monkeypatch.setattr("preftrace.models.loading.load_tokenizer", missing)
    result = check(path)
    assert result.exit_code == 0
    assert "Words are counted" in result.stdout
    assert "no starter here" in result.stdout
    assert "not checked" in result.stdout
    with pytest.raises(ModelError, match="no starter here"):
        check(path, "--model", "starter")


def test_tables_and_two_examples_are_printed(path, tiny_folder):
    shown = check(path, "--model", tiny_folder).stdout
    for expected in ("6 pairs as 'columns', 5 unflagged", "identical", "row 0, ", "row 1, ", "one two"):
        assert expected in shown
    assert "row 2, " not in shown


def test_markup_and_control_characters_in_the_data_are_shown_not_obeyed(tmp_path, tiny_folder):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"prompt": "[red]q[/red] [/nope]", "chosen": "\x1b[2Ja\x07", "rejected": "[link=x]"}))
    shown = check(path, "--model", tiny_folder).stdout
    assert "[red]q[/red] [/nope]" in shown
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown
    assert "\N{REPLACEMENT CHARACTER}[2Ja" in shown


def test_columns_of_other_names_are_read(tmp_path, tiny_folder):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"q": "x", "good": "a", "bad": "b"}))
    options = [part for name in ("prompt=q", "chosen=good", "rejected=bad") for part in ("--column", name)]
    assert json.loads(check(path, *options, "--model", tiny_folder, "--json").stdout)["source"] == "columns"


@pytest.mark.parametrize(
    ("arguments", "error", "cause"),
    [
        (["--source", "nope"], ConfigError, "known: columns, hh, messages, starter"),
        (["--source", "hh"], DataError, "Source 'columns' fits this row"),
        (["--column", "x=y"], ConfigError, "write prompt=NAME"),
        (["--model", "no such model"], ModelError, "no such model"),
    ],
)
def test_wrong_options_are_user_errors(path, arguments, error, cause):
    with pytest.raises(error, match=cause):
        check(path, *arguments)


def test_a_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        check(tmp_path / "gone.jsonl")
