"""Lists of words and of phrases, as the judges look for them in cleaned text."""

from __future__ import annotations

import re

UNSPACED = "\u2e80"
"""Scripts from here on put no spaces between words."""


def vocabulary(*lines: str) -> frozenset[str]:
    """The words in some lines."""
    return frozenset(word for line in lines for word in line.split())


def phrases(*lines: str) -> re.Pattern[str]:
    """A pattern that finds any of some phrases, as whole words.

    Commas stand between phrases, and a phrase may have these marks:

        good/great job   one of these words; a "_" in one is a space
        [very] good      may be missing
        violat*          with any ending
        take ~2 side     up to two words of any kind ("~": one); "~2!if/that": but none of these
        !to answer !me   "answer", but not after "to" and not before "me"
        ^ no $           with no word right before it, with none right after it
        sorry ... not    anything between, within a sentence
    """
    return re.compile("|".join(_pattern(phrase.split()) for line in lines for phrase in line.split(",")))


def _pattern(marks: list[str]) -> str:
    pattern = ""
    for place, mark in enumerate(marks):
        one = mark.strip("[]!").replace("/", "|").replace("_", " ").replace("*", r"\w*")
        end = r"\b" if mark < UNSPACED else ""
        if mark == "...":
            pattern = pattern.rstrip() + r"\b[^.!?]*"
        elif mark in "^$":
            pattern = r"(?<!\w )(?<!\w)" if mark == "^" else pattern.rstrip() + r"(?! \w)"
        elif mark[0] == "~":
            count, _, barred = one[1:].partition("!")
            pattern += (rf"(?:(?!(?:{barred})\b)" if barred else "(?:") + rf"[\w'-]+ ){{0,{count or 1}}}?"
        elif mark[0] == "!" and place == 0:
            pattern = "".join(rf"(?<!\b{word} )" for word in one.split("|"))
        elif mark[0] == "!":
            last = place == len(marks) - 1
            pattern = pattern.rstrip() + rf"(?! (?:{one})\b)" if last else pattern + rf"(?!(?:{one})\b)"
        else:
            pattern += rf"(?:{end}(?:{one}){end} )?" if mark[0] == "[" else rf"{end}(?:{one}){end} "
    return pattern.rstrip()
