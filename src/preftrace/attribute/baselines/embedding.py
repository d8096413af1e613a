"""Embedding: cosine of mean token embeddings, a pair's answers against a query's good and bad ones.

score_k = sum_j w_j (cos(e(chosen), e(y_j)) - cos(e(rejected), e(y_j))) over the query's answers y_j with their signed
weights w_j; cos(e(chosen), e(y_j)) alone where the loss looks at no other. e is the mean of the *input* embeddings of
an answer's tokens in the stage's model: no forward pass, no context. Above 0: the chosen answer is nearer to the good
answers than the rejected one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from preftrace.attribute.baselines._base import Given

if TYPE_CHECKING:
    from preftrace.models import Encoded, LanguageModel

VERSION = 1


def score(given: Given) -> np.ndarray:
    """`(n, Q)`, a weighted difference of cosines; NaN where the query's answers cancel."""
    from preftrace.attribute.baselines import _states

    return _states.products(given, "embedding").values


def vectors(lm: LanguageModel, rows: Sequence[Encoded], layer: int | None, batch_tokens: int) -> np.ndarray:
    """`(n, d)` mean input embeddings of answers, each of length 1, so that products of them are cosines.

    Args:
        lm: the model.
        rows: n prompts and answers.
        layer: has no part in it.
        batch_tokens: has no part in it.
    """
    from preftrace.attribute.baselines import _states

    mean = _states.mean_embeddings(lm, rows)
    norm = np.linalg.norm(mean, axis=1, keepdims=True)
    value: np.ndarray = np.divide(mean, norm, out=np.zeros_like(mean), where=norm > 0)
    return value
