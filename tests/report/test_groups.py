"""The map of groups and topics: means of cells, what stands out, and that nothing of the data's text gets through."""

import json
import math

import pytest

from preftrace.report import charts
from preftrace.report.sections import groups


def row(group, topic, value):
    return {"target": json.dumps({"group": group, "topic": topic}), groups.MEASURE: value}


def test_cells_are_means_of_the_known_values():
    found = groups.cells([row("A", "t", 1.0), row("A", "t", 0.0), row("A", "u", math.nan), row("B", "t", 1.0)])

    assert found == {("A", "t"): 0.5, ("B", "t"): 1.0}
    assert groups.cells([{"target": "{}", groups.MEASURE: 1.0}, {"target": json.dumps({"group": "A"})}]) == {}


def test_a_group_above_the_others_by_hand():
    """Topic t: A 1, B 0, C 0.5; topic u: A 0.5, B 0.5. A: (1 - 0.25 + 0) / 2; C has only t: 0.5 - 0.5."""
    of = {("A", "t"): 1.0, ("B", "t"): 0.0, ("C", "t"): 0.5, ("A", "u"): 0.5, ("B", "u"): 0.5}

    assert groups.above_others(of, "A") == pytest.approx(0.375)
    assert groups.above_others(of, "C") == 0
    assert math.isnan(groups.above_others({("A", "t"): 1.0}, "A"))


def test_a_yes_sayer_stands_nowhere_above_the_others():
    of = {(g, t): 1.0 for g in "ABC" for t in "tu"}

    assert [r["above"]["base"] for r in groups.group_rows({"base": of})] == [0, 0, 0]


def test_the_map_says_what_it_shows_and_its_labels_are_data():
    svg = charts.heat({("<script>\u202eA", "t&"): 0.9, ("B", "t&"): 0.1}, "dpo <b>")

    assert "<script>" not in svg and "<b>" not in svg and "\u202e" not in svg
    assert 'aria-label="dpo &lt;b&gt;, most: ' in svg and svg.count("<path") >= 2
