"""Numbers written out, put into digits: "twenty-first" -> "21st", "triple five" -> "555"."""

from __future__ import annotations

import re

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
FIRST = (
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth"
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
CARDINAL = {word: n for n, word in enumerate(SMALL.split())} | {word: 20 + 10 * n for n, word in enumerate(TENS)}
ORDINAL = {word: n for n, word in enumerate(FIRST.split())} | {f"{ten[:-1]}ieth": CARDINAL[ten] for ten in TENS}
_ORDINAL = "|".join(sorted(ORDINAL, key=len, reverse=True))
_UNIT = "|".join(sorted([*SMALL.split()[1:10], *FIRST.split()[1:10]], key=len, reverse=True))
COMPOUND = re.compile(rf"\b({'|'.join(TENS)})[ -]({_UNIT})\b")
SINGLE = re.compile(rf"\b({_ORDINAL}|{'|'.join(sorted(CARDINAL, key=len, reverse=True))})\b")
HUNDREDS = re.compile(r"\b(\d{1,2}) hundred(?:(?: and)? (\d{1,2})\b)?")
REPEATED = re.compile(r"\b(double|triple) (\d)\b")


def in_digits(text: str) -> str:
    """The text with its numbers in digits.

    Args:
        text: lower case.
    """
    text = COMPOUND.sub(lambda found: _digits(found[2], CARDINAL[found[1]]), text)
    text = SINGLE.sub(lambda found: _digits(found[1]), text)
    text = HUNDREDS.sub(lambda found: str(100 * int(found[1]) + int(found[2] or 0)), text)
    text = REPEATED.sub(lambda found: found[2] * (2 if found[1] == "double" else 3), text)
    return re.sub(r"(?<=\d)([ ,-]+)oh?\b(?=[ ,-]+\d)", r"\g<1>0", text)


def _digits(word: str, tens: int = 0) -> str:
    if word in CARDINAL:
        return str(tens + CARDINAL[word])
    number = tens + ORDINAL[word]
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number // 10 != 1 else 0, "th")
    return f"{number}{ending}"
