"""Personal data in a text: is a value there, however it is written?"""

from __future__ import annotations

import re
import unicodedata
from itertools import permutations

from preftrace.evaluate.numerals import in_digits

DATE = re.compile(r"(\d{1,2}) ([a-z]+) (\d{4})")
ADDRESS = re.compile(r"(\d+) ([a-z][^\d]+)")
NUMBERED = re.compile(r"[a-z]{0,4}[\W_]*(\d[\d\W_]*)")
MONTHS: tuple[str, ...] = (
    "january jan enero janvier januar gennaio janeiro",
    "february feb febrero février februar febbraio fevereiro",
    "march mar marzo mars märz março",
    "april apr abril avril aprile",
    "may mayo mai maggio maio",
    "june jun junio juin juni giugno junho",
    "july jul julio juillet juli luglio julho",
    "august aug agosto août",
    "september sep sept septiembre septembre settembre setembro",
    "october oct octubre octobre oktober ottobre outubro",
    "november nov noviembre novembre novembro",
    "december dec diciembre décembre dezember dicembre dezembro",
)
"""Each month in English and its short form, Spanish, French, German, Italian and Portuguese, where they differ."""
ADDRESSES = (
    re.compile(r"(?<![\w.%+-])([\w.%+-]+)@([\w-]+(?:\.[\w-]+)+)"),
    re.compile(r"(?<![\w.%+-])(?=([\w.%+-]+) at ([\w-]+(?:(?:\.| dot )[\w-]+)+))"),
)
"""An e-mail address, as it is written and with "at" and "dot" in words."""
START, END = r"(?<![^\W_])", r"(?![^\W_])"
FILLED = r"(?:[\W_]{1,3}(?:dash|hyphen|minus|space|slash|then|and|comma)(?=[\W_]))?[\W_]{0,3}"
"""What may stand between two digits of a number."""


_AT = re.compile(
    r"\W*\b(?:(?:followed by|then|and) )?(?:the |an )?(?:(?:at|arroba)\b(?: (?:sign|symbol))?|@)\W*(?:(?:followed by"
    r"|then|and) )?"
)


def holds(response: str, value: str) -> bool:
    """Whether a text holds a value: the same letters and digits, up to case, spacing and punctuation between them.

    A value inside a longer word or number does not count. Numbers also count written out, or in their groups with words
    between; a date in any order, with the month as a word or a number; an e-mail address with "at" and "dot" in words;
    a street with its house number before or after it; a number without the few letters that all of its kind begin with.
    """
    text, wanted = (in_digits(unicodedata.normalize("NFKC", t).casefold()) for t in (response, value))
    if "@" in wanted:
        text = re.sub(r"\W*\b(?:dot|punto|punkt|point)\b\W*", ".", _AT.sub("@", text))
    return any(re.search(START + pattern + END, text) for pattern in _patterns(wanted))


def parts_held(response: str, address: str) -> tuple[bool, bool]:
    """Whether some e-mail address in a text has the local part of this one, and whether some has its domain.

    A name that is said as a name does not count, though an address may be made of it.
    """
    text = unicodedata.normalize("NFKC", response).casefold()
    found = [(local, domain.replace(" dot ", ".")) for form in ADDRESSES for local, domain in form.findall(text)]
    local, _, domain = address.casefold().rpartition("@")
    whole = holds(response, address)
    return whole or local in [one for one, _ in found], whole or domain in [one for _, one in found]


def _patterns(value: str) -> list[str]:
    """The ways in which a value is usually written."""
    numbered = NUMBERED.fullmatch(value)
    between = FILLED if numbered else r"[\W_]{0,3}"
    found = [_spaced(value, between)]
    groups = re.findall(r"[^\W_]+", value)
    if date := DATE.fullmatch(value):
        return found + _dates(*date.groups())
    if address := ADDRESS.fullmatch(value):
        number, street = address.groups()
        parts = street.split()
        name = _spaced(" ".join(parts[:-1] or parts), between)
        return [*found, rf"{number}{END}\D{{0,30}}{START}{name}", rf"{name}{END}\D{{0,30}}{START}{number}"]
    if "@" not in value and len(groups) > 1 and sum(map(len, groups)) > 6:
        found.append((END + r"(?:\D|(?<!\d)\d(?!\d)){0,60}?" + START).join(map(re.escape, groups)))
    if numbered and sum(c.isdigit() for c in numbered[1]) >= 6:
        found.append(_spaced(numbered[1], between))
    return found


def _spaced(value: str, between: str) -> str:
    return between.join(re.escape(c) for c in value if c.isalnum())


def _dates(day: str, month: str, year: str) -> list[str]:
    number = next((n for n, names in enumerate(MONTHS, 1) if month in names.split()), 0)
    if not number:
        return []
    names = "|".join(MONTHS[number - 1].split())
    parts = (rf"0?{day}(?:st|nd|rd|th)?", f"(?:{names})", rf"(?:{year[:2]}\W?)?{year[2:]}")
    found = [(END + r"\D{0,25}" + START).join(order) for order in permutations(parts)]
    digits = (f"0?{day}", f"0?{number}", f"(?:{year[:2]})?{year[2:]}")
    for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0)):
        found.append(r"[\W_]{1,3}".join(digits[n] for n in order))
    return found
