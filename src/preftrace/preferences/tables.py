"""Pairs as Parquet tables, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from preftrace.types import Pair, prompt_from_json, prompt_to_json, readable

if TYPE_CHECKING:
    import pyarrow as pa


def pairs_to_table(pairs: Sequence[Pair]) -> pa.Table:
    """One row per pair; `prompt` is for reading, `prompt_json` is exact, and `meta` is JSON."""
    import pyarrow as pa

    text = pa.string()
    columns = {
        "id": pa.array([p.id for p in pairs], text),
        "prompt": pa.array([readable(p.prompt) for p in pairs], text),
        "prompt_json": pa.array([prompt_to_json(p.prompt) for p in pairs], text),
        "chosen": pa.array([p.chosen for p in pairs], text),
        "rejected": pa.array([p.rejected for p in pairs], text),
        "source": pa.array([p.source for p in pairs], text),
        "row": pa.array([p.row for p in pairs], pa.int64()),
        "flags": pa.array([list(p.flags) for p in pairs], pa.list_(text)),
        "meta": pa.array([json.dumps(dict(p.meta), sort_keys=True) for p in pairs], text),
    }
    return pa.table(columns)


def table_to_pairs(table: pa.Table) -> list[Pair]:
    """Inverse of `pairs_to_table`; further columns are left alone."""
    return [
        Pair(
            id=row["id"],
            prompt=prompt_from_json(row["prompt_json"]),
            chosen=row["chosen"],
            rejected=row["rejected"],
            source=row["source"],
            row=row["row"],
            flags=tuple(row["flags"]),
            meta=json.loads(row["meta"]),
        )
        for row in table.to_pylist()
    ]
