"""SimpleQA: a short question with one answer; is it right, wrong, or not attempted?

Wei et al., SimpleQA (arXiv 2411.04368, section 2), and SimpleQA Verified (arXiv 2509.07968): correct, incorrect and not
attempted, and the share of attempted answers that are correct. Trust is 1 minus the share of an item's answers that are
wrong: who says "I do not know" misleads nobody.
Deviation: an answer is correct if the reference stands in it after both are normalised; the authors ask a model.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Literal

from pydantic import Field

from preftrace.evaluate import parsing
from preftrace.evaluate.base import GenerateConfig, Said
from preftrace.evaluate.refusals import UNKNOWN, is_refusal
from preftrace.evaluate.selection import select
from preftrace.evaluate.sources import Row, rows
from preftrace.evaluate.verticals import _values
from preftrace.evaluate.wording import vocabulary
from preftrace.types import Item, ItemScore, Judgement, Message, Metric, text_id

VERSION = 4
TRUST_FROM = "samples"
METRICS = (
    Metric("correct_rate", "correct", "higher", "share of all answers that hold the reference answer"),
    Metric("incorrect_rate", "incorrect", "lower", "share of all answers that attempt one and do not hold it"),
    Metric("not_attempted_rate", "not attempted", "lower", "share of all answers that decline or do not know"),
    Metric("correct_given_attempted", "correct, attempted", "higher", "correct of the answers that attempt one"),
)
ARTICLES = vocabulary("a an the")
MONTHS = frozenset(names.split()[0] for names in _values.MONTHS)


class Config(GenerateConfig):
    """Settings of the SimpleQA vertical."""

    source: Literal["starter", "simpleqa"] = Field(
        "starter", description="starter, or simpleqa: rows of problem (or question) and answer"
    )


def items(config: Config, seed: int) -> list[Item]:
    """One item for each distinct question; a limit spreads over topics where the source has them."""
    found = (_item(row) for row in rows("simpleqa", config))
    return select(found, config.limit, seed, lambda item: (item.target["topic"],))


def judge(item: Item, response: str, score: float) -> Judgement:
    """Good: holds a reference answer. Refused: declines or does not know. Unparsed: says nothing. Else bad."""
    answer = parsing.own_turn(response)
    if any(holds(answer, reference) for reference in item.target["answers"]):
        return Judgement("good", 1.0)
    if is_refusal(answer, UNKNOWN):
        return Judgement("refused", 1.0)
    return Judgement("bad", 0.0) if parsing.words(answer) else Judgement("unparsed", math.nan)


def score(item: Item, said: Said) -> ItemScore:
    """Trust is the share of answers that are not wrong, of those that say something."""
    correct, wrong = said.share("good"), said.share("bad")
    values = {"correct_rate": correct, "incorrect_rate": wrong, "not_attempted_rate": said.share("refused")}
    if correct + wrong:
        values["correct_given_attempted"] = correct / (correct + wrong)
    return ItemScore(said.trust, values)


def holds(response: str, reference: str) -> bool:
    """Whether an answer holds the reference: its words in a row, not after "not".

    Case, accents, punctuation, articles, thousands separators and ordinal endings do not count, nor the order of day
    and month.
    """
    said = _normal(response)
    forms = _forms(_normal(reference))
    return any(_stands(said, form) for form in forms if form)


def _stands(said: list[str], form: list[str]) -> bool:
    starts = [i for i in range(len(said) - len(form) + 1) if said[i : i + len(form)] == form]
    return any("not" not in said[max(0, start - 2) : start] for start in starts)


def _normal(text: str) -> list[str]:
    decomposed = unicodedata.normalize("NFKD", parsing.clean(text))
    bare = "".join(c for c in decomposed if not unicodedata.combining(c))
    bare = re.sub(r"(?<=\d),(?=\d{3}\b)", "", bare)
    bare = re.sub(r"\b(\d+)(?:st|nd|rd|th)\b(?: of\b)?", r"\1", bare)
    return [word for word in re.findall(r"[^\W_]+(?:\.\d+)?", bare) if word not in ARTICLES]


def _forms(words: list[str]) -> list[list[str]]:
    """The words, and for a day and a month at the start the same with both exchanged."""
    if len(words) >= 2 and {words[0], words[1]} & MONTHS and any(word.isdigit() for word in words[:2]):
        return [words, [words[1], words[0], *words[2:]]]
    return [words]


def _item(row: Row) -> Item:
    question = row.text("problem") if row.values.get("problem") else row.text("question")
    aliases = row.texts("aliases") if row.values.get("aliases") else []
    if not isinstance(row.value("answer"), str | int | float):
        raise row.fail(f"'answer' must be a text or a number, and is {str(row.value('answer'))[:80]}")
    answers = [str(row.value("answer")).strip(), *aliases]
    if not all(_normal(answer) for answer in answers):
        raise row.fail("'answer' must hold a letter or a digit, so that it can be found in what the model says")
    identity = text_id("simpleqa", question)
    return Item(
        id=identity,
        vertical="simpleqa",
        cluster=identity,
        prompt=(Message("user", question),),
        target={"answers": answers, "topic": str(row.values.get("topic") or "")},
    )
