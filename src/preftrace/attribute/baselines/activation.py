"""Activation: a pair's change of mean hidden state, projected on the direction of trust. Forward passes only.

h(y) is the mean hidden state of an answer's tokens, read after its prompt at one layer of the stage's model (the
middle one, or `activation_layer`). The direction of a vertical is d = sum_j w_j h(y_j) over its query's answers y_j
with their signed weights w_j, good answers minus bad ones, and score_k = (h(chosen) - h(rejected)) . d / ||d||;
h(chosen) alone where the loss looks at no other. Above 0: the pair pushes states towards those of the good answers.

After the difference of mean activations of arXiv 2602.11079, which filters preference pairs by its cosine with the
states of new and old answers.
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
    """`(n, Q)`, in the unit of the states; NaN where the direction is 0."""
    from preftrace.attribute.baselines import _states

    found = _states.products(given, "activation")
    value: np.ndarray = found.values / found.norms
    return value


def vectors(lm: LanguageModel, rows: Sequence[Encoded], layer: int | None, batch_tokens: int) -> np.ndarray:
    """`(n, d)` mean hidden states of answers.

    Args:
        lm: the model.
        rows: n prompts and answers.
        layer: 0 is the input embeddings, k the output of layer k; the middle one where None.
        batch_tokens: padded tokens in one forward pass.

    Raises:
        ModelError: the model has no such layer.
    """
    from preftrace.attribute.baselines import _states

    return _states.mean_states(lm, rows, layer, batch_tokens)
