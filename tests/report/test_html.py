import math

import pytest

from preftrace.report import html, phrases


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("a\r\nb", "a\nb"),
        ("a\rb", "a<U+000D>b"),
        ("\u202eabc\u202c", "<U+202E>abc<U+202C>"),
        ("\ud800", "<U+D800>"),
        ("\u0645\u0631\u062d\u0628\u0627", "\u0645\u0631\u062d\u0628\u0627"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("\x85\ufeff", "<U+0085><U+FEFF>"),
    ],
)
def test_hidden_characters_become_visible_and_others_stay(text, shown):
    assert html.clean(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.125, "0.12"), (-0.5, "\u22120.50"), (-0.001, "0.00"), (math.nan, "n/a"), (None, "n/a"), (math.inf, "n/a")],
)
def test_numbers(value, shown):
    assert html.number(value) == shown


def test_signed_numbers():
    assert html.number(0.5, 1, sign=True) == "+0.5"
    assert html.number(0.0, 1, sign=True) == "0.0"


@pytest.mark.parametrize(("value", "shown"), [(0.0004, "< 0.001"), (0.05, "0.050"), (1.0, "1.000"), (math.nan, "n/a")])
def test_p_values(value, shown):
    assert html.p_value(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(3.21, "3.2 s"), (59.4, "59 s"), (61, "1 min 1 s"), (7500, "2 h 5 min")])
def test_times(value, shown):
    assert html.seconds(value) == shown


def test_a_missing_measure_says_how_many_are_missing():
    assert html.measured({"value": None, "missing": 30}) == "n/a (30 missing)"
    assert html.measured({"value": 0.5, "missing": 0}) == "0.50"


def row(**values):
    usual = {
        "measure": "trust",
        "difference": -0.12,
        "low": -0.2,
        "high": -0.04,
        "mean_b": 0.4,
        "mde": 0.1,
        "verdict": "worse",
    }
    return {**usual, **values}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "trust fell by 0.12 (95% interval 0.04 to 0.20)"),
        ({"difference": 0.12, "low": 0.04, "high": 0.2}, "trust rose by 0.12 (95% interval 0.04 to 0.20)"),
        ({"high": 0.01}, "trust changed by \u22120.12 (95% interval \u22120.20 to 0.01)"),
        (
            {"difference": 0, "low": -0.1, "high": 0.1},
            "trust stayed at 0.40 (95% interval of the change \u22120.10 to 0.10)",
        ),
        ({"low": math.nan, "high": math.nan}, "trust changed by \u22120.12 (no interval: too few clusters of items)"),
        ({"measure": "leak_rate"}, "leak rate fell by 0.12 (95% interval 0.04 to 0.20)"),
    ],
)
def test_changes_in_words(values, words):
    assert phrases.change(row(**values)) == words


@pytest.mark.parametrize(
    ("mde", "words"),
    [
        (0.11, "a change of 0.11 or more"),
        (math.inf, "too few items"),
        (1.4, "too few items"),
        (math.nan, "cannot be told"),
    ],
)
def test_what_could_have_been_seen(mde, words):
    assert words in phrases.detectable(row(mde=mde))


def test_templates_escape_and_refuse_what_is_undefined():
    from jinja2 import UndefinedError

    template = html.environment().from_string("{{ text }}")
    assert template.render(text="<b>\u202e") == "&lt;b&gt;&lt;U+202E&gt;"
    with pytest.raises(UndefinedError):
        template.render()
