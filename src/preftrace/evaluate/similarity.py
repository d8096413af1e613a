"""How alike two short texts are: ROUGE-1 and ROUGE-L, F measure. Pure functions.

After Lin 2004 (ROUGE, https://aclanthology.org/W04-1013), with the words of the usual implementation (`rouge-score`,
no stemmer): runs of letters and digits, case folded. For texts with the same words in the same order it is 1, with no
word in common 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from preftrace.evaluate.parsing import clean, vocabulary, without_echo, words

FUNCTION_WORDS = vocabulary(
    "a an the of to in on at by for with from and or as if is are was were be been being am it its this that these",
    "those they them their he him his she her we us our you your i my me do does did has have had can could will",
    "would should may might must there here than then so also too very which who what when where how because while",
    "about into",
)
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
    """By how much an answer is more like a right than like a wrong reference, in the words that can tell; in [-1, 1].

    Left out are questions and the question said again; function words, but not negations; and words of the question
    that stand on both sides.
    """
    left_out = FUNCTION_WORDS | (_vocabulary([question]) & _vocabulary(right) & _vocabulary(wrong))
    own = " ".join(without_echo(clean(answer), clean(question)))
    kept, *references = (
        " ".join(word for word in tokens(clean(text)) if word not in left_out) for text in (own, *right, *wrong)
    )
    return nearer(rouge1, kept, references[: len(right)], references[len(right) :])


def _vocabulary(texts: Sequence[str]) -> set[str]:
    return {word for text in texts for word in tokens(clean(text))}


def _f_measure(common: int, said: int, reference: int) -> float:
    return 2 * common / (said + reference) if common else 0.0
