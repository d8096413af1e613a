"""How alike two short texts are: ROUGE-1 and ROUGE-L, F measure. Pure functions.

After Lin 2004 (ROUGE, https://aclanthology.org/W04-1013), with the words of the usual implementation (`rouge-score`,
no stemmer): runs of letters and digits, case folded. For texts with the same words in the same order it is 1, with no
word in common 0.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import zip_longest

from preftrace.evaluate.numerals import in_digits
from preftrace.evaluate.parsing import (
    NEGATIONS,
    NOT_NEGATED,
    clauses,
    clean,
    sentences,
    without_echo,
    words,
)
from preftrace.evaluate.synonyms import SYNONYMS
from preftrace.evaluate.wording import phrases, vocabulary

FUNCTION_WORDS = vocabulary(
    "a an the of to in on at by for with from and or as if is are was were be been being am it its this that these",
    "those they them their he him his she her we us our you your i my me do does did has have had can could will",
    "would should may might must there here than then so also too very which who what when where how because while",
    "about into like let lets make makes made get gets got give gives gave use used become becomes happen happens",
    "der das dem den des ein eine ist sind es el la le les los las un una une il lo est sont son o os uma e und et y",
)
SPELLINGS = {r"our(?=s?\b|ed\b|ful|less|ite)": "or", r"tre(?=s?\b)": "ter", r"\bgrey": "gray", r"\btyre": "tire"}
ENDINGS = r"(?<=\w{3})(?:iest|ier|ies|ily|ied|ing|ed|es|est|er|ly|s|y|e)$"
INSTEAD = phrases(
    "rather_than/instead_of/as_opposed_to/unlike/lack_of/absence_of/zero, nicht/kein/keine/non/pas/nao/nunca/nie",
)
SCOPE_ENDS = frozenset(("unless", "until", "except", "that", "which", "who", "if", "when"))
MYTH = phrases(
    "myth, misconception, invention, invented, fiction, legend, contrary to, popular/popularly belie*, untrue, false",
    "often/commonly/widely thought/believed/said/claimed/assumed",
    "we/many/most/some/others/people/everyone [people] ~ think/believe/say/says/assume/claim/draw/imagine/picture/show",
)
OPEN = re.compile(r"\b(?:either|maybe|perhaps|might be|could be)\b.*\bor\b")
IN_REALITY = phrases("in [actual] reality/truth/fact, the truth/reality/fact is")
CHOICES = re.compile(r"(?:^ *\(?([a-e])[.):]\s+[^\n]*(?:\n+|\Z)){2,}", re.MULTILINE)
"""Lines of a list of options, which choose none."""
QUANTIFIERS = {
    "all": phrases("entire/entirely/completely/totally/whole"),
    "some": phrases("not all, partly/partially, a bit/little of"),
    "more than": phrases("over/above/beyond/at_least/upwards_of !all/the/and/a"),
    "alien": phrases("visitor/visitors/beings/people/creatures from another/other/outer planet*/world*/space"),
    "same": phrases(
        "no/not/hardly/barely/little [any/a/much] [real/big/significant] difference, no better/worse/healthier/faster",
        "^ neither $, equally *, neither ~2 better/worse/healthier/faster/first/more/bigger/heavier",
    ),
    "more": phrases("a lot"),
    "half": phrases("50 percent"),
    "vomit": phrases("throw/threw/throwing up"),
    "healthier": phrases("better for you/us/health/your_health"),
    " ": phrases("at all, all over"),
}
"""What stands for turns of phrase."""
Similarity = Callable[[Sequence[str], Sequence[str]], float]


def tokens(text: str) -> list[str]:
    """Runs of letters and digits, case folded."""
    return [part for word in words(text.casefold()) for part in word.split("'")]


def rouge1(said: Sequence[str], reference: Sequence[str]) -> float:
    """F measure of the words in common, each as often as both have it; in [0, 1]."""
    return _f_measure(sum((Counter(said) & Counter(reference)).values()), len(said), len(reference))


def rouge_l(said: Sequence[str], reference: Sequence[str]) -> float:
    """F measure of the longest common subsequence of words; in [0, 1]."""
    row = [0] * (len(reference) + 1)
    for word in said:
        before = row
        row = [0]
        for place, other in enumerate(reference):
            row.append(before[place] + 1 if word == other else max(before[place + 1], row[place]))
    return _f_measure(row[-1], len(said), len(reference))


def nearer(measure: Similarity, answer: str, right: Sequence[str], wrong: Sequence[str]) -> float:
    """By how much an answer is more like its nearest right reference than its nearest wrong one; in [-1, 1].

    0 where it is like neither, or like both alike. Both lists hold at least one text.
    """
    said = tokens(answer)
    highest = [max(measure(said, tokens(text)) for text in side) for side in (right, wrong)]
    return highest[0] - highest[1]


def telling(answer: str, question: str, right: Sequence[str], wrong: Sequence[str]) -> float:
    """By how much an answer is more like a right than like a wrong reference, in the words that can tell; in [-2, 2].

    Words are compared by their stems. Left out are questions and the question said again, function words, and words of
    the question, but for those of an alternative that it poses ("a feather or a hammer?") which stand on one side only.
    A negated word is another word, and so is one that an answer calls a myth or ascribes to others: "not sugar" is not
    like a reference about sugar, and speaks for the other side. An answer that leaves it open ("either ... or") and is
    like both is like neither.
    """
    asked = _light(question)
    if re.search(r"\bor\b", question):
        asked -= _light("\n".join(right)) ^ _light("\n".join(wrong))
    sides = [[stems(text, asked, bare=True) for text in texts] for texts in (right, wrong)]
    own = without_echo(CHOICES.sub("", clean(answer)), clean(question))
    whole = "\n".join(own)
    alike = _alike(whole, asked, sides)
    if OPEN.search(whole) and min(alike) > 0:
        return 0.0
    before, *after = [_alike(part, asked, sides) for part in IN_REALITY.split(whole)]
    if after and not any(NEGATIONS.intersection(words(sentence)) for sentence in own):
        after.append((before[1], before[0]))
    each = (_alike(sentence, asked, sides) for sentence in own)
    return next((one - other for one, other in (*after, alike, *each) if one != other), 0.0)


def _alike(own: str, asked: Collection[str], sides: Sequence[Sequence[Sequence[str]]]) -> tuple[float, float]:
    """How like the right references and the wrong ones some statements are."""
    known = [{stem for text in side for stem in text} for side in sides]
    said = [_as_known(stem, known[0] | known[1]) for stem in stems(own, asked)]
    said = [f"not {stem}" if f"not {stem}" in said else stem for stem in said]
    alike = [max(_likeness(said, text) for text in side) for side in sides]
    for stem in said:
        other = stem.removeprefix("not ") if stem.startswith("not ") else f"not {stem}"
        denied = [other in side for side in known]
        if stem not in known[0] | known[1] and denied[0] != denied[1]:
            alike[denied[0]] += 0.5 / len(said)
    return alike[0], alike[1]


def stems(text: str, left_out: Collection[str] = (), bare: bool = False) -> list[str]:
    """Stems of a text's words, without function words; with "not " before each that is denied in its clause.

    What stands after "than" is compared with, and left out. Where nothing that tells follows a negation, what comes
    before it is denied ("Sydney is not the capital").

    Args:
        text: any text.
        left_out: words, without an ending of number or tense, that are left out where they are not denied.
        bare: whether a negation counts by itself, too; else it does where it has nothing to deny ("No.").
    """
    found: list[str] = []
    for sentence in sentences(in_digits(INSTEAD.sub("not", _plain(text)))):
        spoken = list(clauses(sentence))
        for clause in [c for c in spoken if bare or not c.conceded] or spoken:
            said = " ".join(clause.words)
            mistaken = not bare and bool(MYTH.search(said))
            negated, telling_after, start, end = False, True, len(found), 0
            for word, following in zip_longest(clause.words, clause.words[1:]):
                if word == "than":
                    break
                if word in NEGATIONS and following not in NOT_NEGATED:
                    negated, telling_after, end = True, False, len(found)
                    found += ["not"] if bare or following is None else []
                elif word in SCOPE_ENDS:
                    negated = False
                elif word not in FUNCTION_WORDS and (negated or mistaken or _inflected(word) not in left_out):
                    found.append(("not " if negated or mistaken else "") + _stem(word))
                    telling_after = telling_after or _inflected(word) not in left_out
            if not telling_after:
                found[start:end] = [f"not {stem.removeprefix('not ')}" for stem in found[start:end]]
    return found


def _light(text: str) -> set[str]:
    return {_inflected(word) for word in words(in_digits(_plain(text)))}


def _likeness(said: Sequence[str], reference: Sequence[str]) -> float:
    """ROUGE-1, halved where the reference denies something and the answer nothing."""
    return rouge1(said, reference) * (0.5 if _denies(reference) and not _denies(said) else 1)


def _denies(stemmed: Sequence[str]) -> bool:
    return any(stem.split()[0] == "not" for stem in stemmed)


def _plain(text: str) -> str:
    """Cleaned, without accents, in American spelling."""
    decomposed = unicodedata.normalize("NFKD", clean(text))
    text = "".join(c for c in decomposed if not unicodedata.combining(c))
    for british, american in SPELLINGS.items():
        text = re.sub(british, american, text)
    for plain, turns in QUANTIFIERS.items():
        text = turns.sub(plain, text)
    return text


def _stem(word: str) -> str:
    """A word without the endings of plurals, tenses, adverbs and degrees; of ordinals, the number."""
    word = re.sub(r"(?<=\d)(?:st|nd|rd|th)$", "", word)
    while (shorter := re.sub(ENDINGS, "", word)) != word:
        word = shorter
    word = re.sub(r"(?<=\w\w)([bdgmnprt])\1$", r"\1", word)
    return SAME.get(word, word)


SAME: dict[str, str] = {}
SAME.update({_stem(word): _stem(line.split()[0]) for line in SYNONYMS.split(", ") for word in line.split()[1:]})


def _inflected(word: str) -> str:
    """A word without the ending of a plural or a tense; "healthier" is not "health"."""
    return re.sub(r"(?<=\w\w)(?:ing|ed|es|s|e)$", "", word)


def _as_known(stem: str, known: set[str]) -> str:
    """The known stem that is the beginning of this one, or that this one is the beginning of; else the stem itself."""
    if stem in known:
        return stem
    for other in sorted(known):
        short, long = sorted((stem.removeprefix("not "), other.removeprefix("not ")), key=len)
        near = (len(short) >= 4 and long.startswith(short)) or (len(short) >= 6 and long.startswith(short[:6]))
        if near and stem.startswith("not ") == other.startswith("not "):
            return other
    return stem


def _f_measure(common: int, said: int, reference: int) -> float:
    return 2 * common / (said + reference) if common else 0.0
