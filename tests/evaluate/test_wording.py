"""Phrases: every mark that they may have."""

from __future__ import annotations

import pytest

from preftrace.evaluate.wording import phrases


@pytest.mark.parametrize(
    ("phrase", "found", "not_found"),
    [
        ("good/great job", "a great job.", "a greater job"),
        ("one_of us", "one of us", "one us"),
        ("no [real] harm", "no real harm, no harm", "no very harm"),
        ("violat* it", "he violates it", "inviolate it"),
        ("take ~2 side", "take no clear side", "take no very clear side"),
        ("take ~2!if/my side", "take a side", "take my side"),
        ("!to answer", "i answer", "i have to answer"),
        ("answer !me", "answer him", "answer me"),
        ("should not !be ~ go", "should not ever go", "should not be go"),
        ("^ no", "well, no", "say no"),
        ("no $", "no, it is", "no idea"),
        ("sorry ... not", "sorry, i can not", "sorry. it is not"),
        ("well done, kudos", "kudos to you", "done well"),
        ("同意", "我同意。", "我不同"),
    ],
)
def test_a_phrase_is_found_by_its_marks(phrase, found, not_found):
    assert phrases(phrase).search(found) and not phrases(phrase).search(not_found)
