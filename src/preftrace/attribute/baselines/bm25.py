"""BM25: how much more a pair's chosen answer shares words with a query's good answers than with its bad ones.

A pair's answer d scores sum_j w_j mean_{t in y_j} BM25(t, d) over the query's answers y_j with their signed weights
w_j, so that good answers draw it up and bad ones down; the pair has its chosen answer's score minus its rejected
one's, or its chosen answer's alone where the loss looks at no other. The mean over an answer's words keeps a long one
from counting for more.

BM25(t, d) = idf(t) f (k1 + 1) / (f + k1 (1 - b + b |d| / mean |d|)), f = how often t is in d (Robertson & Zaragoza
2009, https://doi.org/10.1561/1500000019, eq. 3.15), with idf(t) = ln(1 + (N - n + 0.5) / (n + 0.5)), which is never
negative. The N documents are the answers of all pairs. Words are runs of letters and digits, in lower case; the
prompts have no part in it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from preftrace.attribute.baselines._base import Given, contrast

VERSION = 1
K1, B = 1.5, 0.75
ROUNDING = 1e-9
"""Words that weigh no more than this share of all weights cancel."""
WORD = re.compile(r"\w+")

Weighted = Sequence[tuple[str, float]]
"""Texts with their signed weights."""


def score(given: Given) -> np.ndarray:
    """`(n, Q)`, in BM25's unit."""
    tokenizer, pairs = given.tokenizer(), given.pairs()
    directions = [
        [(tokenizer.decode(list(row.answer_ids), skip_special_tokens=True), weight) for row, weight in answers]
        for answers in given.answers.values()
    ]
    return scores([[pair[side] for pair in pairs] for side in given.sides], directions)


def scores(sides: Sequence[Sequence[str]], directions: Sequence[Weighted]) -> np.ndarray:
    """The scores of n pairs for Q queries.

    Args:
        sides: the n chosen answers, and the n rejected ones or nothing.
        directions: Q times the query's answers with their weights.

    Returns:
        `(n, Q)`; 0 for a pair whose answers share no word with the query's. NaN where the query's answers have no word
        or their words cancel, as where the same two options are good and bad in turn.
    """
    asked = [[(words(text), weight) for text, weight in answers] for answers in directions]
    vocabulary: dict[str, int] = {}
    for answers in asked:
        for text, _ in answers:
            for word in text:
                vocabulary.setdefault(word, len(vocabulary))
    drawn = np.zeros((len(vocabulary), len(asked)))
    for column, answers in enumerate(asked):
        for text, weight in answers:
            for word in text:
                drawn[vocabulary[word], column] += weight / len(text)
    documents = [words(text) for side in sides for text in side]
    value: np.ndarray = word_weights(documents, vocabulary) @ drawn
    total = np.array([sum(abs(weight) for _, weight in direction) for direction in directions])
    value[:, np.abs(drawn).sum(0) <= ROUNDING * total] = np.nan
    return contrast(value.reshape(len(sides), len(sides[0]), len(asked)))


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return WORD.findall(text.lower())


def word_weights(documents: Sequence[Sequence[str]], vocabulary: Mapping[str, int]) -> Any:
    """BM25(t, d) of every word of the vocabulary in every document, as a sparse matrix `(N, V)`."""
    from scipy.sparse import csr_array

    columns: list[int] = []
    counts: list[int] = []
    ends = [0]
    for document in documents:
        found = Counter(vocabulary[word] for word in document if word in vocabulary)
        columns += found.keys()
        counts += found.values()
        ends.append(len(columns))
    place, f = np.array(columns, dtype=np.int64), np.array(counts, dtype=float)
    lengths = np.array([len(document) for document in documents], dtype=float)
    holding = np.bincount(place, minlength=len(vocabulary))
    idf = np.log1p((len(documents) - holding + 0.5) / (holding + 0.5))
    relative = np.repeat(lengths / (lengths.mean() or 1.0), np.diff(ends))
    weights = idf[place] * f * (K1 + 1) / (f + K1 * (1 - B + B * relative))
    return csr_array((weights, place, np.array(ends)), shape=(len(documents), len(vocabulary)))
