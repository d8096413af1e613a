"""Formats other than HH, the guess, the flags that every source gets, and the settings."""

import json

import pytest
from pydantic import ValidationError

from preftrace.errors import ConfigError, DataError
from preftrace.preferences import ColumnNames, PreferencesConfig, read_guessed, read_pairs
from preftrace.registry import SOURCES
from preftrace.types import Message


@pytest.fixture
def pairs(tmp_path):
    """Write rows as JSON lines and read them as pairs."""

    def write_and_read(source, *rows, **settings):
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return read_pairs(PreferencesConfig(source=source, path=str(path), **settings))

    return write_and_read


def chat(*contents):
    return [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(contents)]


def answer(content):
    return [{"role": "assistant", "content": content}]


def test_columns_keep_the_prompt_as_it_is_and_trim_the_answers(pairs):
    (pair,) = pairs("columns", {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": " a ", "rejected": " b\n", "n": 3})
    assert (pair.prompt, pair.chosen, pair.rejected) == ("\n\nHuman: q\n\nAssistant:", "a", "b")
    assert (pair.source, pair.row, pair.flags, pair.meta) == ("columns", 0, (), {"n": 3})


def test_columns_may_have_other_names(pairs):
    names = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    (pair,) = pairs("columns", {"q": "x", "good": "a", "bad": "b"}, columns=names)
    assert (pair.prompt, pair.chosen, pair.rejected) == ("x", "a", "b")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": chat("q", "a", "r"), "chosen": answer("c"), "rejected": answer("d")},
        {"prompt": chat("q", "a", "r"), "chosen": chat("q", "a", "r", "c"), "rejected": chat("q", "a", "r", "d")},
        {"chosen": chat("q", "a", "r", "c"), "rejected": chat("q", "a", "r", "d")},
        {"prompt": "q", "chosen": chat("q", "a", "r", "c"), "rejected": chat("q", "a", "r", "d")},
        {"prompt": chat("q", "a", "r"), "chosen": "c", "rejected": " d"},
    ],
    ids=["all-lists", "prompt-repeated", "no-prompt", "prompt-is-text", "answers-are-text"],
)
def test_every_layout_of_messages_gives_the_same_pair(pairs, row):
    (pair,) = pairs("messages", row)
    assert pair.prompt == (Message("user", "q"), Message("assistant", "a"), Message("user", "r"))
    assert (pair.chosen, pair.rejected, pair.flags) == ("c", "d", ())


def test_a_text_prompt_with_message_answers_is_the_users_message(pairs):
    row = {"prompt": "q", "chosen": answer("c"), "rejected": answer("d")}
    assert pairs("messages", row)[0].prompt == (Message("user", "q"),)


def test_a_conversation_that_goes_on_after_the_answer_is_a_fork(pairs):
    (pair,) = pairs("messages", {"chosen": chat("q", "c", "r", "s"), "rejected": chat("q", "d")})
    assert (pair.chosen, pair.rejected, pair.flags) == ("c", "d", ("fork",))


@pytest.mark.parametrize(
    ("chosen", "cause"),
    [
        ([{"role": "tool", "content": "x"}], "column 'chosen', message 0 has the role 'tool'"),
        ([{"role": "user", "content": [1]}], "column 'chosen', message 0 has a list as content, not text"),
        ([{"from": "human"}], "column 'chosen', message 0 is not an object with role and content"),
        (7, "column 'chosen' holds a number, not a list of messages"),
    ],
)
def test_messages_that_are_none_name_the_message(pairs, chosen, cause):
    with pytest.raises(DataError, match="line 1: ") as caught:
        pairs("messages", {"chosen": chosen, "rejected": chat("q", "d")})
    assert cause in str(caught.value)


def test_empty_and_identical_answers_are_flagged_and_kept(pairs):
    texts = [("a", "b"), ("", "b"), ("a", " "), ("a", "a "), (" ", "")]
    read = pairs("columns", *({"prompt": "q", "chosen": c, "rejected": r} for c, r in texts))
    assert [p.flags for p in read] == [(), ("empty",), ("empty",), ("identical",), ("empty", "identical")]


def test_the_second_of_two_equal_rows_is_the_duplicate(pairs):
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    read = pairs("columns", row, {**row, "rejected": "c"}, {**row, "chosen": "a "}, row)
    assert [p.flags for p in read] == [(), (), ("duplicate",), ("duplicate",)]
    assert read[0].id == read[2].id == read[3].id != read[1].id


def test_a_blank_prompt_is_malformed(pairs):
    row = {"chosen": "a", "rejected": "b"}
    assert [p.flags for p in pairs("columns", {**row, "prompt": " "}, {**row, "prompt": "q"})] == [("malformed",), ()]


def test_what_json_cannot_hold_in_meta_becomes_null_or_text(pairs):
    (pair,) = pairs("columns", {"prompt": "q", "chosen": "a", "rejected": "b", "score": float("nan"), "tags": ["x"]})
    assert pair.meta == {"score": None, "tags": ["x"]}


def test_limit_reads_the_first_rows_only(pairs):
    rows = [{"prompt": "q", "chosen": str(n), "rejected": "b"} for n in range(5)]
    assert [p.chosen for p in pairs("columns", *rows, {"bad": 1}, limit=2)] == ["0", "1"]


def test_half_a_surrogate_pair_is_refused_with_its_line(pairs):
    with pytest.raises(DataError, match=r"pairs.jsonl, line 1: a text holds half a character \(U\+D83D\)"):
        pairs("columns", {"prompt": "q", "chosen": "\ud83d", "rejected": "b"})


def test_the_starter_reads_its_own_file_without_a_path():
    read = read_pairs(PreferencesConfig())
    assert len(read) >= 160
    assert len({p.id for p in read}) == len(read)
    assert all(not p.flags and p.source == "starter" and len(p.prompt) == 1 for p in read)
    planted = sum(bool(p.meta["planted"]) for p in read)
    assert 0.05 < planted / len(read) < 0.2


TRANSCRIPTS = {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}
ROWS = {
    "hh": TRANSCRIPTS,
    "columns": {"prompt": "q", "chosen": "a", "rejected": "b"},
    "messages": {"chosen": chat("q", "a"), "rejected": chat("q", "b")},
    "starter": {"prompt": "q", "chosen": "a", "rejected": "b", "meta": {"topic": "x", "planted": ""}},
}


@pytest.mark.parametrize("source", SOURCES.names())
def test_the_source_is_guessed_from_the_first_row_and_all_rows_are_read(tmp_path, source):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(ROWS[source]) + "\n" + json.dumps(ROWS[source]))
    name, read = read_guessed(PreferencesConfig(path=str(path)))
    assert name == source
    assert [(p.source, p.row) for p in read] == [(source, 0), (source, 1)]


UNFIT = [
    (wrong, right)
    for wrong in SOURCES.names()
    for right in SOURCES.names()
    if wrong != right and (wrong, right) != ("columns", "starter")
]


@pytest.mark.parametrize(("wrong", "right"), UNFIT)
def test_the_wrong_source_is_told_what_is_there_what_is_needed_and_what_would_fit(pairs, wrong, right):
    with pytest.raises(DataError) as caught:
        pairs(wrong, ROWS[right])
    message = str(caught.value)
    assert "pairs.jsonl, " in message
    assert "line 1" in message
    assert f"Source '{wrong}' needs {SOURCES.load(wrong).NEEDS}." in message
    assert f"Source '{right}' fits this row." in message


def test_a_missing_column_names_the_columns_that_are_there(pairs):
    with pytest.raises(DataError, match="no column 'chosen'; columns there: prompt, answer, rejected"):
        pairs("columns", {"prompt": "q", "answer": "a", "rejected": "b"})


@pytest.mark.parametrize(
    ("value", "kind"), [(3, "a number"), (None, r"nothing \(null\)"), (["a"], "a list"), (True, "a truth")]
)
def test_a_value_that_is_no_text_names_line_and_kind(pairs, value, kind):
    good = {"prompt": "q", "chosen": "a", "rejected": "b"}
    with pytest.raises(DataError, match=f"line 2: column 'rejected' holds {kind}"):
        pairs("columns", good, {**good, "rejected": value})


def test_no_source_fits_lists_columns_and_sources(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"question": "q", "score": 1}\n')
    with pytest.raises(DataError, match="Columns there: question, score") as caught:
        read_guessed(PreferencesConfig(path=str(path)))
    assert all(name in str(caught.value) for name in SOURCES.names())


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"source": "nope"}, "known: columns, hh, messages, starter"),
        ({"source": "hh"}, "source 'hh' needs a path"),
        ({"holdout": 1.0}, "less than 1"),
        ({"limit": 0}, "greater than or equal to 1"),
        ({"drop": ("truncated",)}, "'fork', 'empty', 'identical' or 'duplicate'"),
        ({"colums": {}}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, cause):
    with pytest.raises(ValidationError, match=cause):
        PreferencesConfig(**settings)


def test_identity_leaves_out_the_path_and_the_order_of_drop():
    one = PreferencesConfig(source="hh", path="a.jsonl", drop=("fork", "empty"))
    other = PreferencesConfig(source="hh", path="b.jsonl", drop=("empty", "fork", "fork"))
    assert one.identity() == other.identity()
    assert one.identity() != PreferencesConfig(source="hh", path="a.jsonl").identity()


def test_column_options_are_parsed_or_refused():
    assert ColumnNames.parse(["chosen=a=b"]) == ColumnNames(chosen="a=b")
    for wrong in ("chosen", "chosen=", "answer=x"):
        with pytest.raises(ConfigError, match="write prompt=NAME"):
            ColumnNames.parse([wrong])
