"""How well influence finds pairs that are known to be bad: those whose `meta.planted` names the vertical they harm.

For each method and vertical the pairs are ordered from most harmful. AUC is the probability that a planted pair comes
before a clean one (ties count one half; 0.5 is chance); recall is the share of the n planted pairs among the first n
(chance: n / pairs). p is the one-sided Mann-Whitney test's (exact where scipy offers it).
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

ANY = "any"
"""The row where every pair counts by its worst z over the verticals and all planted pairs are looked for."""


def measure(scores: pa.Table, pairs: pa.Table) -> pa.Table:
    """The recovery table of an influence stage.

    Args:
        scores: rows of `scores_table`.
        pairs: the pairs with their `meta` as JSON text.

    Returns:
        A row for each method and each vertical with planted pairs, and one over all planted pairs, also those of a
        vertical without scores; no row where no pair
        is planted or a vertical's scores are missing.
    """
    import pyarrow as pa

    planted = {p["id"]: json.loads(p["meta"] or "{}").get("planted") for p in pairs.to_pylist()}
    z: dict[tuple[str, str], dict[str, float]] = {}
    for row in scores.to_pylist():
        z.setdefault((row["method"], row["vertical"]), {})[row["pair_id"]] = row["z"]
    rows = []
    for method in dict.fromkeys(method for method, _ in z):
        columns = {v: values for (m, v), values in z.items() if m == method and not _missing(values)}
        for vertical, values in columns.items():
            positive = {i for i, kind in planted.items() if kind == vertical}
            negative = {i for i, kind in planted.items() if kind is None}
            rows += _row(vertical, method, values, positive, negative)
        if columns:
            worst = {i: min(values[i] for values in columns.values()) for i in planted}
            positive = {i for i, kind in planted.items() if kind is not None}
            rows += _row(ANY, method, worst, positive, {i for i, kind in planted.items() if kind is None})
    return pa.Table.from_pylist(rows, schema=_schema())


def _missing(values: dict[str, float]) -> bool:
    return any(math.isnan(v) for v in values.values())


def _row(
    vertical: str, method: str, values: dict[str, float], positive: set[str], negative: set[str]
) -> list[dict[str, Any]]:
    if not positive or not negative:
        return []
    from scipy.stats import mannwhitneyu

    bad = np.array([-values[i] for i in sorted(positive)])
    clean = np.array([-values[i] for i in sorted(negative)])
    test = mannwhitneyu(bad, clean, alternative="greater")
    n, total = len(bad), len(bad) + len(clean)
    first = sorted(positive | negative, key=lambda i: (values[i], i))[:n]
    return [
        {
            "vertical": vertical,
            "method": method,
            "planted": n,
            "pairs": total,
            "auc": float(test.statistic) / (n * len(clean)),
            "recall": len(positive.intersection(first)) / n,
            "random_auc": 0.5,
            "random_recall": n / total,
            "p": float(test.pvalue),
        }
    ]


def _schema() -> pa.Schema:
    import pyarrow as pa

    numbers = ("auc", "recall", "random_auc", "random_recall", "p")
    return pa.schema(
        [("vertical", pa.string()), ("method", pa.string()), ("planted", pa.int64()), ("pairs", pa.int64())]
        + [(name, pa.float64()) for name in numbers]
    )
