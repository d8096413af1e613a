"""TruthfulQA's questions, from any of the forms in which they are published, and what is asked about each of them.

The forms: the authors' `TruthfulQA.csv` (Question, Best Answer, Best Incorrect Answer, Correct Answers and Incorrect
Answers, the last two separated by semicolons), the Hub's `generation` (the same names in lower case, lists), and the
multiple-choice JSON (mc1_targets, mc2_targets, since 2025 also mc0_targets, the binary choice).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from preftrace.evaluate.prompts import fill
from preftrace.evaluate.sources import Row
from preftrace.types import Item, Option, text_id

NO_COMMENT = "I have no comment."
PAPER = {"prompt": ("options",), "option": ("number", "answer")}
"""What `protocol: paper` needs of the prompts file: the whole prompt, and one option within it."""


class Question(NamedTuple):
    """A question with its answers.

    Attributes:
        text: the question.
        category: what it is about, or None.
        single: answers to choose one from -> whether it is the best one, which is the only true one.
        multiple: all answers -> whether they are true.
        pair: the best true and the best false answer, where the source says which.
        where: place in the source, for messages.
    """

    text: str
    category: str | None
    single: dict[str, bool]
    multiple: dict[str, bool]
    pair: tuple[str, str] | None
    where: Row

    @property
    def identity(self) -> str:
        """Of the question; items about one question share it."""
        return text_id("truthfulness", self.text)

    @property
    def cluster(self) -> str:
        """The category, or the question by itself."""
        return str(self.category or self.identity)


def starter(row: Row) -> Question:
    """A row of preftrace's own: question, correct (the best first), incorrect (the worst first), category."""
    correct, incorrect = row.texts("correct"), row.texts("incorrect")
    single = {correct[0]: True} | dict.fromkeys(incorrect, False)
    multiple = dict.fromkeys(correct, True) | dict.fromkeys(incorrect, False)
    return _checked(row, single, multiple, (correct[0], incorrect[0]))


def published(row: Row) -> Question:
    """A row in one of the published forms."""
    row = row._replace(values={re.sub(r"\W+", "_", str(k).strip().lower()): v for k, v in row.values.items()})
    if "best_answer" not in row.values or "mc1_targets" in row.values:
        pair = _targets(row, "mc0_targets") if row.values.get("mc0_targets") else {}
        chosen = sorted(pair, key=lambda text: not pair[text])
        if pair and sorted(pair.values()) != [False, True]:
            raise row.fail("'mc0_targets' must have one true and one false answer")
        both = (chosen[0], chosen[1]) if pair else None
        return _checked(row, _targets(row, "mc1_targets"), _targets(row, "mc2_targets"), both)
    best, wrong = row.text("best_answer"), dict.fromkeys(_answers(row, "incorrect_answers"), False)
    right = dict.fromkeys([best, *_answers(row, "correct_answers")], True)
    if twice := right.keys() & wrong.keys():
        raise row.fail(f"the answer '{min(twice)}' is both true and false")
    false = row.values.get("best_incorrect_answer")
    both = (best, row.text("best_incorrect_answer")) if false else None
    return _checked(row, {best: True} | wrong, right | wrong, both)


def choices(question: Question) -> tuple[str, ...]:
    """Each distinct answer once: those to choose one from first."""
    return tuple(dict.fromkeys([*question.single, *question.multiple]))


def binary(question: Question, prompt: str) -> list[Item]:
    """Best true against best false answer, in both orders; the letter is chosen, so that length plays no part.

    Args:
        question: the question.
        prompt: what is asked; ends in `A:`, before which the two answers are put.

    Raises:
        DataError: the source does not say which false answer is the best.
    """
    if question.pair is None:
        raise question.where.fail(
            "measure binary needs the false answer that the authors chose: 'Best Incorrect Answer', as in their "
            "TruthfulQA.csv of 2025, or 'mc0_targets'"
        )
    found = []
    for first in (True, False):
        a, b = question.pair if first else question.pair[::-1]
        asked = f"{prompt.removesuffix('A:')}(a) {a}\n(b) {b}\nA:"
        options = (Option("(a)", good=first), Option("(b)", good=not first))
        target = {"measure": "binary", "category": question.category, "true_first": first}
        identity = text_id("truthfulness", "binary", question.text, str(first))
        found.append(_item(question, identity, asked, target, options))
    return found


def generation(question: Question, prompt: str) -> Item:
    """Answered freely, to be compared with the true and the false answers; having no comment counts as true."""
    right = [text for text, true in question.multiple.items() if true]
    wrong = [text for text, true in question.multiple.items() if not true]
    target = {"measure": "generation", "right": list(dict.fromkeys([*right, NO_COMMENT])), "wrong": wrong}
    identity = text_id("truthfulness", "generation", question.text)
    return _item(question, identity, prompt, target | {"category": question.category})


def repeated(question: Question, strings: Mapping[str, str], seed: int) -> Item:
    """As the paper's scripts ask: the options in a seeded order, without the question, one to be repeated."""
    order = sorted(question.single, key=lambda text: text_id(str(seed), question.text, text))
    right = order.index(next(text for text, best in question.single.items() if best))
    shown = [fill(strings["option"], number=str(number), answer=text) for number, text in enumerate(order)]
    asked = fill(strings["prompt"], options="".join(shown))
    target = {"measure": "paper", "right": order[right], "number": right, "category": question.category}
    return _item(question, text_id("truthfulness", "paper", question.text), asked, target)


def _item(
    question: Question, identity: str, prompt: str, target: Mapping[str, Any], options: Sequence[Option] = ()
) -> Item:
    return Item(
        id=identity,
        vertical="truthfulness",
        cluster=question.cluster,
        prompt=prompt,
        options=tuple(options),
        target=target,
        unit=question.identity if target["measure"] == "binary" else "",
    )


def _checked(row: Row, single: dict[str, bool], multiple: dict[str, bool], pair: tuple[str, str] | None) -> Question:
    options: dict[str, bool] = {}
    for text, good in (*single.items(), *multiple.items()):
        if not text or options.setdefault(text, good) is not good:
            raise row.fail(f"the answer '{text}' is empty, or both true and false")
    for name, targets in (("single-answer", single), ("multiple-answer", multiple)):
        if len(set(targets.values())) < 2:
            raise row.fail(f"the {name} options need at least one true and one false answer")
    if sum(single.values()) != 1:
        raise row.fail("the single-answer options need exactly one true answer")
    category = row.values.get("category")
    return Question(row.text("question"), None if category is None else str(category), single, multiple, pair, row)


def _answers(row: Row, key: str) -> list[str]:
    if isinstance(row.value(key), list):
        return row.texts(key)
    found = [text.strip() for text in row.text(key).split(";") if text.strip()]
    if not found:
        raise row.fail(f"'{key}' holds no answer")
    return found


def _targets(row: Row, key: str) -> dict[str, bool]:
    """Answers and whether they are true, as the authors' file has them, or as the Hub does (choices and labels)."""
    value = row.value(key)
    pairs = list(value.items()) if isinstance(value, Mapping) else []
    if isinstance(value, Mapping) and set(value) == {"choices", "labels"}:
        pairs = _zipped(row, key, value)
    if not pairs or not all(isinstance(text, str) and label in (0, 1) for text, label in pairs):
        raise row.fail(f"'{key}' must map each answer to 1 (true) or 0 (false)")
    found: dict[str, bool] = {}
    for text, label in pairs:
        if found.setdefault(text.strip(), bool(label)) is not bool(label):
            raise row.fail(f"the answer '{text.strip()}' of '{key}' is both true and false")
    return found


def _zipped(row: Row, key: str, value: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    try:
        return list(zip(value["choices"], value["labels"], strict=True))
    except (TypeError, ValueError) as error:
        raise row.fail(f"'{key}' must have a label for each of its choices") from error
