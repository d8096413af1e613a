"""Privacy as the scripts of arXiv 2404.18870 ask: every person's value in a row of sentences, then the last person's.

Rows with people are asked as they are. From a file of names, people are taken in their order, four at a time, and each
four is asked about every label of the prompts file; all values but e-mail addresses are invented by seed.
Deviation: the scripts draw home addresses from seven real ones; ours are invented.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from preftrace.errors import DataError
from preftrace.evaluate.prompts import fill, phrases
from preftrace.evaluate.sources import Row
from preftrace.types import Item, text_id

STRINGS = {"system": ("kind",), "record": ("name", "kind", "value"), "question": ("name", "kind")}
TOGETHER = 4
LETTERS, CAPITALS = string.ascii_letters, string.ascii_uppercase
FORMS = {
    "phone number": (10, string.digits),
    "social security number": (9, string.digits),
    "password": (12, LETTERS + string.digits),
    "ssh private key": (12, LETTERS + string.digits),
    "secret key": (12, LETTERS + string.digits),
    "credit card number": (16, string.digits),
    "passport number": (10, CAPITALS + string.digits),
    "canary number": (10, string.digits),
    "canary code": (10, CAPITALS),
}
"""Length and alphabet of the invented values, by kind; addresses have a form of their own."""


class Person(NamedTuple):
    """A name from the user's file and the e-mail address that stands beside it."""

    name: str
    value: str


def kind_of(label: str) -> str:
    """The kind of data that a label names, lower case: the spellings of "social security number" are one kind."""
    bare = re.sub(r"[^a-z]", "", label.casefold())
    return "social security number" if bare in ("ssn", "socialsecuritynumber") else label.casefold().strip()


def item(label: str, people: Mapping[str, str], strings: Mapping[str, str]) -> Item:
    """The scripts' item: what is known of everybody, and the question about the last of them.

    Args:
        label: what kind of data it is, spelled as it is asked.
        people: name -> value, in order.
        strings: system, record and question of the prompts file.
    """
    *_, (name, value) = people.items()
    records = "".join(fill(strings["record"], name=n, kind=label, value=v) for n, v in people.items())
    question = fill(strings["question"], name=name, kind=label)
    prompt = fill(strings["system"], kind=label) + records + question
    others = [v for n, v in people.items() if n != name]
    cluster, kind = text_id(*sorted(people)), kind_of(label)
    target = {"measure": "leakage", "protocol": "paper", "kind": kind, "name": name, "value": value, "others": others}
    unit = text_id(cluster, kind, name)
    identity = text_id("privacy", "paper", prompt)
    return Item(id=identity, vertical="privacy", cluster=cluster, prompt=prompt, target=target, crossed=kind, unit=unit)


def quadruples(rows: Iterator[Row], labels: str, seed: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Every label with every four people of a file of names, and the values that are said to be theirs.

    Args:
        rows: name and email.
        labels: one a line, from the prompts file.
        seed: of the invented values.

    Raises:
        DataError: fewer than four names, or a label that no value can be invented for.
    """
    people = [Person(row.text("name"), row.text("email")) for row in rows]
    groups = [people[i : i + TOGETHER] for i in range(0, len(people) - TOGETHER + 1, TOGETHER)]
    if not groups:
        raise DataError(
            f"protocol paper of privacy shows {TOGETHER} people at a time; the names file has {len(people)}"
        )
    for label in phrases(labels):
        for number, group in enumerate(groups):
            values = _values(label, group, np.random.default_rng([seed, number, *label.encode()]))
            yield label, dict(zip((person.name for person in group), values, strict=True))


def _values(label: str, group: Sequence[Person], generator: np.random.Generator) -> list[str]:
    kind = kind_of(label)
    if kind == "email address":
        return [person.value for person in group]
    if kind == "address":
        return [_address(generator) for _ in group]
    if kind not in FORMS:
        known = ", ".join(["email address", "address", *FORMS])
        raise DataError(f"'privacy.labels' of the prompts file: no value can be invented for '{label}'; known: {known}")
    length, alphabet = FORMS[kind]
    return ["".join(generator.choice(list(alphabet), length)) for _ in group]


def _address(generator: np.random.Generator) -> str:
    street = generator.choice(["Alderwick Road", "Fennel Lane", "Copperhill Street", "Marlpit Way"])
    town = generator.choice(["Lower Thistle", "Oxbow Falls", "Grayling", "Port Hemlock"])
    return f"{generator.integers(1, 999)} {street}, {town} {generator.integers(10_000, 99_999)}"
