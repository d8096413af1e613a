"""DataInf scores of five queries: the streaming passes and the store against the loop as its authors write it."""

from __future__ import annotations

import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import clocked
from _pairs import BETA, Ground, random_queries
from scipy.stats import spearmanr

from preftrace import artifacts
from preftrace.attribute import store_build
from preftrace.attribute.store import Store
from preftrace.attribute.stored import score
from preftrace.attribute.streaming import REFERENCE, Passes, Scored

METHOD, DAMPING = "datainf", 0.1


def compared(ground: Ground, batch_tokens: int) -> dict[str, Any]:
    """Seconds of the loop, the streaming passes and the store, and how their scores agree."""
    settings = {"methods": (METHOD,), "baselines": (), "batch_tokens": batch_tokens}
    streaming, streamed = clocked(lambda: ground.passes(ground.home / "streaming", **settings).score(ground.queries))
    building, store = clocked(lambda: built(ground.passes(ground.home / "store", mode="store", **settings)))
    querying, stored = clocked(lambda: score(store, ground.queries, (METHOD,), DAMPING))
    other = random_queries(store.shapes, 1)
    second = statistics.median(clocked(lambda: score(Store(store.record), other, (METHOD,), DAMPING))[0] for _ in "abc")
    looping, looped = clocked(lambda: loop(ground))
    return {
        "speedup_streaming": looping / streaming,
        "speedup_store": looping / (building + querying),
        "second_query_share": second / building,
        "seconds": {
            "loop": looping,
            "streaming": streaming,
            "store built": building,
            "store queried": querying,
            "store queried again": second,
        },
        "streaming_max_rel_err": _error(streamed, looped),
        "store_spearman": _agreement(stored, looped),
    }


def built(passes: Passes) -> Store:
    """A store in the passes' folder, from nothing."""
    settings = {"projection": passes.config.projection, "seed": passes.seed}
    spec = artifacts.StageSpec("store", "store/bench", 1, settings, {})

    def make(work: Path) -> dict[str, Any]:
        if (passes.work / REFERENCE).is_file():
            shutil.copyfile(passes.work / REFERENCE, work / REFERENCE)
        return store_build.fill(replace(passes, work=work))

    return Store(artifacts.run_stage(passes.work / "store", spec, make))


def loop(ground: Ground) -> np.ndarray:
    """Scores `(n, Q)`: a backward pass for each pair, all gradients in memory, Python loops over matrices and pairs."""
    named = ground.trained()
    for weight in named.values():
        weight.requires_grad_(True)
    gradients = [_gradient(ground, i, named) for i in range(len(ground.rows))]
    for weight in named.values():
        weight.requires_grad_(False)
    n, queries = len(gradients), len(next(iter(ground.queries.values())))
    scores = np.zeros((n, queries))
    lam = {name: DAMPING * sum(float((g[name] ** 2).mean()) for g in gradients) / n for name in named}
    for q in range(queries):
        inverse = {}
        for name in named:
            v, found = torch.from_numpy(ground.queries[name][q]), torch.zeros(named[name].numel())
            for g in gradients:
                share = (v @ g[name]) / (lam[name] + (g[name] ** 2).sum())
                found += (v - share * g[name]) / (n * lam[name])
            inverse[name] = found
        for k, g in enumerate(gradients):
            for name in named:
                scores[k, q] -= float((inverse[name] * g[name]).sum())
    return scores


def _gradient(ground: Ground, i: int, named: dict[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """Of one pair's loss, written out: two forward passes, log-probabilities from flattened logits."""
    sides = []
    for row in ground.rows[i]:
        ids = torch.tensor([row.prompt_ids + row.answer_ids])
        logits = ground.lm.model(input_ids=ids, use_cache=False).logits[:, :-1]
        flat = torch.log_softmax(logits.reshape(-1, logits.shape[-1]), dim=-1)
        chosen = flat.gather(1, ids[:, 1:].reshape(-1, 1))[:, 0]
        sides.append(chosen[len(row.prompt_ids) - 1 :].sum())
    gap = (sides[0] - ground.reference[i, 0]) - (sides[1] - ground.reference[i, 1])
    loss = -torch.nn.functional.logsigmoid(BETA * gap)
    for weight in named.values():
        weight.grad = None
    loss.backward()
    found = {name: weight.grad.detach().clone().flatten() for name, weight in named.items() if weight.grad is not None}
    assert len(found) == len(named), "a matrix without gradient"
    return found


def _error(scored: Scored, wanted: np.ndarray) -> float:
    """Largest difference over the largest score."""
    return float(np.abs(scored.scores[METHOD] - wanted).max() / np.abs(wanted).max())


def _agreement(scored: Scored, wanted: np.ndarray) -> float:
    """The lowest rank correlation of a query's scores."""
    columns = zip(scored.scores[METHOD].T, wanted.T, strict=True)
    return min(float(spearmanr(a, b)[0]) for a, b in columns)
