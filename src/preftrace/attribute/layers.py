"""The decoder layer that a trained matrix is of, the layers that influence looks at, and each layer's part of a score.

H is block-diagonal, a block being a trained matrix. So a score is a sum over matrices, and over the layers they are of.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from preftrace.errors import ConfigError
from preftrace.models.reward import HEAD

if TYPE_CHECKING:
    import pyarrow as pa

WHOLE = 2000
"""Up to so many pairs the table of layers holds every pair."""
ENDS = 100
"""Beyond them it holds so many of the most helpful and of the most harmful, for each vertical and method."""
_NUMBER = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")


def layer_of(name: str) -> str:
    """Number of the decoder layer that a module or matrix is in; `head` of a reward model's head, `other` of the rest.

    The number is the first part of the dotted name that is one, whatever stands before it (`model.layers.12.`,
    `transformer.h.12.`).
    """
    if name.split(".")[0] == HEAD:
        return "head"
    found = _NUMBER.search(name)
    return found[1] if found else "other"


def layer_names(names: Collection[str]) -> list[str]:
    """The layers of modules or matrices, each once: numbers in order, then `head`, then `other`."""
    found = {layer_of(name) for name in names}
    return sorted(found, key=lambda layer: (not layer.isdigit(), int(layer) if layer.isdigit() else layer))


def select(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The modules that patterns name, in the order of `names`; all of them where there is no pattern.

    Args:
        names: names of adapted modules, and of a reward model's head.
        patterns: layers, `7`, `head` or `other`; ranges `4-9`, both ends included; `-4:`, the last four numbered
            layers; anything else is a glob on the whole name, `*self_attn*`.

    Raises:
        ConfigError: a pattern names none of them.
    """
    if not patterns:
        return list(names)
    found = {pattern: _matches(names, pattern) for pattern in patterns}
    there = f"there are layers {', '.join(layer_names(names))} with {', '.join(_kinds(names))}"
    problems = [f"layers: '{pattern}' names no adapted module; {there}" for pattern in patterns if not found[pattern]]
    if problems:
        raise ConfigError(problems)
    wanted = set().union(*found.values())
    return [name for name in names if name in wanted]


def _matches(names: Sequence[str], pattern: str) -> set[str]:
    numbers = [int(layer) for layer in layer_names(names) if layer.isdigit()]
    if span := re.fullmatch(r"(\d+)-(\d+)", pattern):
        wanted = {str(number) for number in numbers if int(span[1]) <= number <= int(span[2])}
    elif last := re.fullmatch(r"-(\d+):", pattern):
        wanted = {str(number) for number in numbers[max(len(numbers) - int(last[1]), 0) :]}
    elif pattern.isdigit() or pattern in ("head", "other"):
        wanted = {pattern}
    else:
        return {name for name in names if fnmatchcase(name, pattern)}
    return {name for name in names if layer_of(name) in wanted}


def _kinds(names: Sequence[str]) -> list[str]:
    """Names with a `*` for the layer's number, each once."""
    return list(dict.fromkeys(_NUMBER.sub(lambda m: m[0].replace(m[1], "*"), name, count=1) for name in names))


def by_layer(parts: np.ndarray, blocks: Sequence[str]) -> np.ndarray:
    """Parts of scores `(n, L, Q)` of the L blocks as those of their K layers, `(n, K, Q)` float32."""
    own = [layer_of(block) for block in blocks]
    columns = [[i for i, layer in enumerate(own) if layer == wanted] for wanted in layer_names(blocks)]
    return np.stack([parts[:, column].sum(1) for column in columns], axis=1).astype(np.float32)


def layers_table(
    pair_ids: Sequence[str],
    stage: str,
    verticals: Mapping[str, int],
    parts: Mapping[str, np.ndarray],
    names: Sequence[str],
) -> pa.Table:
    """Each layer's part of the scores, a row for each pair, vertical, method and layer.

    Up to `WHOLE` pairs all of them are there, of more only the `ENDS` of highest and of lowest score of each vertical
    and method. `contribution` sums to the score over the layers; `share` is it over the sum of the layers' absolute
    contributions, from -1 to 1, and NaN where these are all 0.

    Args:
        pair_ids: of the n pairs.
        stage: its name.
        verticals: name -> column, of those that have scores.
        parts: method -> `(n, K, Q)`.
        names: of the K layers.
    """
    import pyarrow as pa

    text = {name: pa.string() for name in ("pair_id", "stage", "vertical", "method", "layer")}
    schema = pa.schema(text | {"contribution": pa.float32(), "share": pa.float32()})
    ids, tables = np.array(pair_ids, dtype=object), [schema.empty_table()]
    for method, values in parts.items():
        for vertical, column in verticals.items():
            kept = _kept(values[:, :, column].sum(1))
            part = values[kept, :, column]
            rows = part.size
            columns = {
                "pair_id": np.repeat(ids[kept], len(names)),
                "stage": [stage] * rows,
                "vertical": [vertical] * rows,
                "method": [method] * rows,
                "layer": list(names) * len(kept),
                "contribution": part.ravel(),
                "share": shares(part).ravel(),
            }
            tables.append(pa.table({name: pa.array(value, schema.field(name).type) for name, value in columns.items()}))
    return pa.concat_tables(tables)


def shares(parts: np.ndarray) -> np.ndarray:
    """`(n, K)` contributions over the sum of their absolute values; NaN for a pair whose are all 0."""
    total = np.abs(parts).sum(1, keepdims=True)
    found = np.full_like(parts, np.nan)
    np.divide(parts, total, out=found, where=total > 0)
    return found


def _kept(score: np.ndarray) -> np.ndarray:
    """Positions of the pairs that the table holds, in the order of the pairs."""
    if len(score) <= WHOLE:
        return np.arange(len(score))
    order = np.argsort(score, kind="stable")[: int((~np.isnan(score)).sum())]
    return np.unique(np.concatenate([order[:ENDS], order[-ENDS:]]))
