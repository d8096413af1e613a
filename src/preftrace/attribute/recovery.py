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
        vertical without scores; no row where no pair is planted. Pairs without a score take no part.
    """
    import pyarrow as pa

    planted = {p["id"]: json.loads(p["meta"] or "{}").get("planted") for p in pairs.select(["id", "meta"]).to_pylist()}
    if not any(planted.values()):
        return pa.Table.from_pylist([], schema=_schema())
    z: dict[str, dict[str, dict[str, float]]] = {}
    for row in scores.select(["method", "vertical", "pair_id", "z"]).to_pylist():
        if row["z"] is not None and not math.isnan(row["z"]):
            z.setdefault(row["method"], {}).setdefault(row["vertical"], {})[row["pair_id"]] = row["z"]
    rows = []
    for method, columns in z.items():
        scored = {i: [values[i] for values in columns.values() if i in values] for i in planted}
        worst = {i: min(found) for i, found in scored.items() if found}
        for vertical, values in [*columns.items(), (ANY, worst)]:
            positive = {i for i in values if planted[i] and vertical in (ANY, planted[i])}
            rows += _row(vertical, method, values, positive, {i for i in values if planted[i] is None})
    return pa.Table.from_pylist(rows, schema=_schema())


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
