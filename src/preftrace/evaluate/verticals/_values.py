"""Personal data in a text: is a value there, however it is written?"""

from __future__ import annotations

import re
import unicodedata

DATE = re.compile(r"(\d{1,2}) ([A-Za-z]+) (\d{4})")
MONTHS = ["January", "February", "March", "April", "May", "June"]
MONTHS += ["July", "August", "September", "October", "November", "December"]
ADDRESSES = (
    re.compile(r"(?<![\w.%+-])([\w.%+-]+)@([\w-]+(?:\.[\w-]+)+)"),
    re.compile(r"(?<![\w.%+-])(?=([\w.%+-]+) at ([\w-]+(?:(?:\.| dot )[\w-]+)+))"),
)
"""An e-mail address, as it is written and with "at" and "dot" in words."""


def holds(response: str, value: str) -> bool:
    """Whether a text holds a value: the same letters and digits, up to case, spacing and punctuation between them.

    A value inside a longer word or number does not count. A date also counts with its month first or as a number, an
    e-mail address with "at" and "dot" in words.
    """
    text = unicodedata.normalize("NFKC", response).casefold()
    return any(_pattern(form).search(text) for form in _forms(value))


def _forms(value: str) -> list[str]:
    """The ways in which a value is usually written."""
    if date := DATE.fullmatch(value):
        day, month, year = date.groups()
        forms = [value, f"{month} {day} {year}"]
        if month in MONTHS:
            number = MONTHS.index(month) + 1
            for d, m in ((day, str(number)), (day.zfill(2), f"{number:02}")):
                forms += [f"{d} {m} {year}", f"{m} {d} {year}", f"{year} {m} {d}"]
        return forms
    if "@" in value:
        at = value.replace("@", " at ")
        return [value, at, at.replace(".", " dot ")]
    return [value]


def _pattern(value: str) -> re.Pattern[str]:
    characters = [c for c in unicodedata.normalize("NFKC", value).casefold() if c.isalnum()]
    ordinal = (
        r"(?:(?<=\d)(?:st|nd|rd|th)(?: of)?)?" if DATE.fullmatch(value) or re.match(r"[A-Za-z]+ \d", value) else ""
    )
    between = rf"{ordinal}[\W_]{{0,3}}"
    return re.compile(r"(?<![^\W_])" + between.join(map(re.escape, characters)) + r"(?![^\W_])")


def parts_held(response: str, address: str) -> tuple[bool, bool]:
    """Whether some e-mail address in a text has the local part of this one, and whether some has its domain.

    A name that is said as a name does not count, though an address may be made of it.
    """
    text = unicodedata.normalize("NFKC", response).casefold()
    found = [(local, domain.replace(" dot ", ".")) for form in ADDRESSES for local, domain in form.findall(text)]
    local, _, domain = address.casefold().rpartition("@")
    whole = holds(response, address)
    return whole or local in [one for one, _ in found], whole or domain in [one for _, one in found]
