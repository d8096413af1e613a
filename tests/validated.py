"""A synthetic `preftrace validate` result of two methods and a baseline, with the real columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from preftrace import artifacts
from preftrace.attribute import fidelity
from preftrace.attribute.fidelity_result import lds_table, removal_schema

BASELINES = ["length"]
NOISE = {"identity": 0.4, "datainf": 0.8, "length": 3.0}
"""What each one's predictions have beside the truth."""
SUBSETS, PAIRS = 40, 22


def write_validation(
    run: Path,
    stage: str,
    verticals: Sequence[str],
    noise: dict[str, float] = NOISE,
    subsets: int = SUBSETS,
    removal: bool = True,
    trained_again: str | None = None,
) -> None:
    """`validate/STAGE` of a run; the less noise, the higher a method's LDS. Ethics has none.

    Two groups of the first vertical are left out: the harmful one does as its scores say, the helpful one does not.
    """
    found = {"query": _agreements(len(verticals), noise, subsets)} if subsets else {}
    best = fidelity.contest(found["query"], BASELINES) if found else None
    tables = {
        "lds": lds_table(found, list(verticals), BASELINES, subsets),
        "removal": pa.Table.from_pylist(_groups(next(iter(verticals))) if removal else [], removal_schema()),
        "recovery": pa.Table.from_pylist(_recovery(list(noise))),
    }
    summary = {
        "stage": stage,
        "trained_again": trained_again or stage,
        "pairs": PAIRS,
        "subsets": subsets,
        "models": 52,
    }
    summary |= {"verticals": list(verticals), "baselines": BASELINES, "verdict": best.words() if best else ""}
    summary["contest"] = best._asdict() if best else None

    def make(work: Path) -> dict:
        for name, table in tables.items():
            artifacts.write_table(work / f"{name}.parquet", table)
        return summary

    name = f"validate/{stage}"
    artifacts.run_stage(run / name, artifacts.StageSpec("validate", name, 1, {}, {}), make)


def _agreements(verticals: int, noise: dict[str, float], subsets: int) -> dict[str, fidelity.Agreement]:
    rng = np.random.default_rng(0)
    actual = rng.normal(size=(subsets, verticals))
    draws = fidelity.resample(subsets, 200, 0)
    guesses = {method: actual + size * rng.normal(size=actual.shape) for method, size in noise.items()}
    for guess in guesses.values():
        guess[:, 0] = np.nan
    return {method: fidelity.agreement(guess, actual, draws) for method, guess in guesses.items()}


def _groups(vertical: str) -> list[dict]:
    usual = {
        "method": "datainf",
        "vertical": vertical,
        "measure": "query",
        "removed": 2,
        "controls": 5,
        "outside": True,
    }
    usual |= {"random": 0.0, "random_low": -0.1, "random_high": 0.1, "low": 0.15, "high": 0.35}
    harmful = usual | {"side": "harmful", "predicted": 0.2, "change": 0.25}
    helpful = usual | {"side": "helpful", "predicted": -0.3, "change": 0.2}
    random = usual | {"side": "helpful", "vertical": "privacy", "predicted": -0.3, "change": -0.05, "outside": False}
    return [helpful, harmful, random]


def _recovery(methods: list[str]) -> list[dict]:
    usual = {"planted": 3, "pairs": PAIRS, "recall": 2 / 3, "random_auc": 0.5, "random_recall": 3 / PAIRS, "p": 0.01}
    return [
        usual | {"vertical": vertical, "method": method, "auc": 0.9 - 0.1 * m}
        for m, method in enumerate(methods)
        for vertical in ("any", "privacy")
    ]
