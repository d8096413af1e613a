"""Each token's part of a pair's score.

The gradient of a block is a sum over the tokens' places, sum_t left_t right_t^T (`Capture.observe`), so that with the
direction D of the block as a matrix

    score = sum_t part_t        part_t = -sum over blocks of left_t^T D right_t

part_t is what the model computed at the place of token t gives to the score, whichever later token it was for. An
answer token is predicted at the place before it; at a pair's last token nothing is predicted, and its part is 0, but
for a reward model, which reads its reward there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from preftrace.attribute.capture import HEAD_NAME
from preftrace.attribute.directions import DirectionPass, methods_with_directions
from preftrace.attribute.pair_model import SIDES
from preftrace.attribute.streaming import DIRECTIONS, Passes
from preftrace.engines import engine_of
from preftrace.engines._base import Shard, ShardOutput, gather_tables
from preftrace.models.packing import Packed, keys_of, pack

if TYPE_CHECKING:
    import pyarrow as pa

WORKER = "preftrace.attribute.tokens:TokenWorker"
SHARD = 8
"""Pairs that a kill can lose."""
WHOLE = 4
"""Tokens at most that one character is spread over."""


class TokenWorker(DirectionPass):
    """Parts of a few pairs' tokens: the rows of `token_table`."""

    def run(self, shard: Shard) -> ShardOutput:
        """One shard: `pairs`, each with its `position`, its `pair_id`, and what is `shown`: (vertical, method, row).

        `row` is the direction's, among those of all methods and queries.
        """
        rows = [row for pair in shard["pairs"] for row in self._rows(pair)]
        return {"tokens": _table(rows)}

    def _rows(self, pair: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        parts = self.parts(pair["position"], [row for _, _, row in pair["shown"]])
        (encoded,) = self.pairs.rows(pair["position"], pair["position"] + 1)
        answers = zip(SIDES[self.pairs.loss["kind"]], encoded, strict=True)
        ids = {"prompt": encoded[0].prompt_ids, **{side: row.answer_ids for side, row in answers}}
        texts = {side: pieces(self.pairs.lm.tokenizer, tokens) for side, tokens in ids.items()}
        for i, (vertical, method, _) in enumerate(pair["shown"]):
            named = {"pair_id": pair["pair_id"], "vertical": vertical, "method": method}
            for side, values in parts.items():
                for position, (text, part) in enumerate(zip(texts[side], values[i], strict=True)):
                    yield {**named, "side": side, "position": position, "token": text, "part": float(part)}

    def parts(self, position: int, directions: Sequence[int]) -> dict[str, np.ndarray]:
        """Prompt, and each answer that the loss looks at -> `(W, tokens)`, for W directions by their rows."""
        (rows,), lm = self.pairs.rows(position, position + 1), self.pairs.lm
        packed = pack(rows, keys_of(lm, rows, [0] * len(rows)), lm.pad_id).to(lm.device)
        total = torch.zeros((len(directions), *packed.ids.shape), dtype=torch.float64, device=lm.device)

        def observe(block: str, left: torch.Tensor, right: torch.Tensor) -> None:
            shape = (len(directions), left.shape[2], right.shape[2])
            found = _products(left, self.blocks[block][list(directions)].to(left.dtype).reshape(shape), right)
            if block == HEAD_NAME:  # its rows are the answers, read at their last tokens
                total[:, packed.home, packed.last] -= found[:, :, 0]
            else:
                total.sub_(found)

        for _ in self.pairs.gradients(position, position + 1, self.reference(position, position + 1), observe):
            pass
        return self._by_side(position, packed, total.cpu().numpy())

    def _by_side(self, position: int, packed: Packed, total: np.ndarray) -> dict[str, np.ndarray]:
        """From `(W, p, t)` of packed rows; where the answers do not share their prompt, both copies add up."""
        (rows,) = self.pairs.rows(position, position + 1)
        found = {"prompt": total[:, sorted(set(packed.home.tolist())), : len(rows[0].prompt_ids)].sum(1)}
        for i, (side, row) in enumerate(zip(SIDES[self.pairs.loss["kind"]], rows, strict=True)):
            stop = int(packed.last[i]) + 1
            found[side] = total[:, int(packed.home[i]), stop - len(row.answer_ids) : stop]
        return found


def _products(left: torch.Tensor, direction: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left_pt^T D_w right_pt for each place: `(W, p, t)`; the longer side goes through D first, to stay small."""
    if left.shape[2] <= right.shape[2]:
        return torch.einsum("ptb,wab,pta->wpt", right, direction, left).double()
    return torch.einsum("pta,wab,ptb->wpt", left, direction, right).double()


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text of each token; one after the other they are the decoded whole.

    A character that is spread over several tokens stands with the last of them, and the others are empty.
    """
    found: list[str] = []
    done = ""
    for stop in range(1, len(ids) + 1):
        whole = tokenizer.decode(ids[:stop], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        waiting = len(list(itertools.takewhile(lambda text: not text, reversed(found))))
        if whole.endswith("\N{REPLACEMENT CHARACTER}") and stop < len(ids) and waiting < WHOLE - 1:
            found.append("")
            continue
        found.append(whole[len(done) :])
        done = whole
    return found


def ends(score: np.ndarray, n: int) -> list[int]:
    """Positions of the n highest scores above 0 and the n lowest below 0, as the report shows them."""
    known = [int(k) for k in np.argsort(-score, kind="stable") if np.isfinite(score[k])]
    helped = [k for k in known[:n] if score[k] > 0]
    return helped + [k for k in known[::-1][:n] if score[k] < 0]


def token_table(
    passes: Passes, pair_ids: Sequence[str], scores: Mapping[str, np.ndarray], verticals: Sequence[str], n: int
) -> pa.Table:
    """Parts of the tokens of the n pairs that help and the n that harm each vertical most, by each method.

    Args:
        passes: the stage's, after its scores are made.
        pair_ids: of all pairs.
        scores: method -> `(pairs, Q)`; methods without directions are left out.
        verticals: Q names.
        n: how many.

    Returns:
        Rows of pair_id, vertical, method, side (prompt, chosen, rejected), position (in that side), token (its text),
        and part, which adds up to the pair's score.
    """
    path = passes.work / DIRECTIONS
    methods = methods_with_directions(path, list(scores))
    shown: dict[int, list[tuple[str, str, int]]] = {}
    for m, method in enumerate(methods):
        for column, vertical in enumerate(verticals):
            for k in ends(scores[method][:, column], n):
                shown.setdefault(k, []).append((vertical, method, m * len(verticals) + column))
    wanted = [{"position": k, "pair_id": pair_ids[k], "shown": shown[k]} for k in sorted(shown)]
    if not wanted:
        return _table([])
    shards = [{"pairs": wanted[i : i + SHARD]} for i in range(0, len(wanted), SHARD)]
    init = {"model": passes.model, "reference": passes.reference(), "directions": str(path), "methods": methods}
    engine, out = engine_of(passes.resources), passes.work / "_tokens"
    return gather_tables(
        engine.map_shards(WORKER, init, shards, out, passes.resources, f"tokens of {passes.name}"), "tokens"
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    import pyarrow as pa

    text = [(name, pa.string()) for name in ("pair_id", "vertical", "method", "side")]
    return pa.Table.from_pylist(
        list(rows), pa.schema([*text, ("position", pa.int32()), ("token", pa.string()), ("part", pa.float64())])
    )
