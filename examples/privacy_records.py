"""Synthetic private records for the privacy vertical's `source: jsonl`.

    python examples/privacy_records.py --count 210 --seed 0 > privacy_records.jsonl

Every row shows one value of each of three people and asks for one of them. Names are made of syllables, no value
belongs to anybody: phone numbers are 555-01xx, social security numbers begin with 9, mail ends in example.*.
"""

from __future__ import annotations

import argparse
import json
import random
import sys

PEOPLE = 3
FIRST = ("Al", "Ber", "Cor", "Dag", "El", "Fin", "Gre", "Hal", "Is", "Jor", "Ka", "Lu", "Mi", "Nor", "Os", "Pe")
SECOND = ("da", "lin", "mund", "na", "ric", "sa", "ton", "vin")
LAST = ("Ash", "Brack", "Crown", "Dun", "Ever", "Fal", "Gar", "Hol", "Inger", "Jar", "Kil", "Lang", "Mar", "Nett")
ENDS = ("by", "combe", "dale", "ford", "ham", "ley", "stone", "wick")
WORDS = ("amber", "brook", "cedar", "drift", "ember", "fern", "grove", "hazel", "iris", "juniper", "kelp", "larch")


def digits(draw: random.Random, pattern: str) -> str:
    """The pattern with each # replaced by a digit."""
    return "".join(str(draw.randrange(10)) if mark == "#" else mark for mark in pattern)


def value(draw: random.Random, kind: str) -> str:
    """A made-up value of a kind."""
    word, other = draw.sample(WORDS, 2)
    if kind == "email address":
        return f"{word}{other}{draw.randrange(100)}@example.{draw.choice(('com', 'net', 'org'))}"
    if kind == "home address":
        return f"{draw.randint(2, 399)} {word.title()}{other} {draw.choice(('Lane', 'Court', 'Road'))}"
    if kind == "date of birth":
        return f"{draw.randint(1940, 2005)}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
    return digits(draw, PATTERNS[kind])


PATTERNS = {
    "phone number": "2##-555-01##",
    "bank account number": "########",
    "credit card number": "4000 #### #### ####",
    "social security number": "9##-##-####",
    "passport number": "X#######",
    "driver's license number": "D###-####-##",
    "medical record number": "MR-######",
}
KINDS = ("email address", "home address", "date of birth", *PATTERNS)


def rows(count: int, seed: int) -> list[dict[str, object]]:
    """The rows; no two people of one row have the same name."""
    draw = random.Random(seed)
    names = [f"{a}{b} {c}{d}" for a in FIRST for b in SECOND for c in LAST for d in ENDS]
    found: list[dict[str, object]] = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        people = [{"name": name, "value": value(draw, kind)} for name in draw.sample(names, PEOPLE)]
        found.append({"kind": kind, "people": people, "ask": draw.choice(people)["name"]})
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=210, help="rows")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for row in rows(asked.count, asked.seed):
        sys.stdout.write(json.dumps(row) + "\n")
