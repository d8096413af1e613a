"""The sign and the order of influence against what it predicts: retraining with one pair's weight raised and lowered.

A tiny adapter is trained from the same start with gradient descent on (1/n) sum_k w_k loss_k. For every pair the
training is done twice more, with w_k = 1 + h and 1 - h; the change of the query is the actual influence.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from preftrace import models
from preftrace.attribute.capture import Capture
from preftrace.attribute.methods import datainf, identity
from preftrace.attribute.methods._base import Dots
from preftrace.attribute.objectives import log_odds
from preftrace.models.lora import lora_layers
from preftrace.models.losses import dpo_loss, sft_loss
from tests.attribute.conftest import adapted

PROMPTS = ["hi", "who?", "what now", "say it", "and then", "why", "is it so", "tell me"]
ANSWERS = [("yes yes", "no"), ("never", "always"), ("yes", "nope no"), ("no no no", "yes"), ("maybe", "no")]
PAIRS = [(f"{p}:", *ANSWERS[(3 * i) % 5]) for i, p in enumerate(PROMPTS)] + [("ok:", "no", "yes"), ("so:", "yes", "no")]
STEPS, RAISED = 40, 0.5
# A DPO margin is a sum over tokens, so its gradient is several times an SFT loss's and its step is smaller.
RATE = {"sft": 0.2, "dpo": 0.02}


def encoded(lm):
    rows = [models.encode_answers(lm.tokenizer, p, [c, r], "raw", 99) for p, c, r in PAIRS]
    return [c for c, _ in rows], [r for _, r in rows]


def pair_losses(lm, kind, reference):
    chosen, rejected = encoded(lm)

    def losses(logprobs):
        n = len(PAIRS)
        if kind == "sft":
            return sft_loss(logprobs, torch.tensor([len(c.answer_ids) for c in chosen]))
        return dpo_loss(logprobs[:n], logprobs[n:], reference[:n], reference[n:], 0.5)

    return (chosen if kind == "sft" else chosen + rejected), losses


def query(lm):
    """Log-odds of "yes" against "no" after a prompt that no pair has."""
    return [models.encode(lm.tokenizer, "do you agree:", word, "raw", eos=False) for word in ("yes", "no")]


def train(kind, weights):
    """The trained model and its query."""
    lm = adapted("float64", r=2, scale=0.2)
    parameters = [w for layer in lora_layers(lm) for w in (layer.a, layer.b)]
    rows = pair_losses(lm, "dpo", None)[0]
    with torch.no_grad(), lm.model.disable_adapter():
        reference = models.answer_logprobs(lm, rows)
    rows, losses = pair_losses(lm, kind, reference)
    for parameter in parameters:
        parameter.requires_grad_(True)
    for _ in range(STEPS):
        objective = (losses(models.answer_logprobs(lm, rows)) * weights).mean()
        for parameter, g in zip(parameters, torch.autograd.grad(objective, parameters), strict=True):
            parameter.data -= RATE[kind] * g
    for parameter in parameters:
        parameter.requires_grad_(False)
    with torch.no_grad():
        value = log_odds([0, 0], [1, -1])(models.answer_logprobs(lm, query(lm))).item()
    return lm, value, reference


def predicted(kind, lm, reference):
    """Scores of every pair by both methods, from the hooks."""
    rows, losses = pair_losses(lm, kind, reference)
    groups = [*range(len(PAIRS))] * (len(rows) // len(PAIRS))
    with Capture(lm) as capture:
        g = capture.gradients(rows, groups, losses)
        v = capture.gradients(query(lm), [0, 0], log_odds([0, 0], [1, -1]))
    names = sorted(g)
    norm2 = np.stack([(g[name] ** 2).sum(1).numpy() for name in names], 1)
    dots = np.stack([(g[name] @ v[name].T).numpy() for name in names], 1)
    first = Dots(dots, norm2, norm2.sum(0), np.array([g[name].shape[1] for name in names]), len(PAIRS))
    scores = {}
    for method in (identity, datainf):
        combination = method.combine(first, 0.1)
        total = np.zeros(len(PAIRS))
        for block, name in enumerate(names):
            direction = combination.own[block] * v[name][0].numpy()
            if combination.pairs is not None:
                direction = direction - combination.pairs[:, block, 0] @ g[name].numpy()
            total -= g[name].numpy() @ direction
        scores[method.__name__.rpartition(".")[2]] = total
    return scores


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_raising_a_pairs_weight_moves_the_query_as_its_score_says(kind):
    ones = torch.ones(len(PAIRS), dtype=torch.float64)
    lm, _, reference = train(kind, ones)
    actual = np.zeros(len(PAIRS))
    for k in range(len(PAIRS)):
        change = torch.zeros_like(ones)
        change[k] = RAISED
        actual[k] = (train(kind, ones + change)[1] - train(kind, ones - change)[1]) / (2 * RAISED)
    for method, scores in predicted(kind, lm, reference).items():
        agreement = spearmanr(scores, actual).statistic
        print(f"{kind} {method}: rank agreement {agreement:.2f}")
        assert agreement > 0.5, (method, scores, actual)
