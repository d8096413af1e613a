"""A stage's model with its pairs as tokens, and the gradient of its loss on each pair."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from preftrace import artifacts, models
from preftrace.attribute.capture import Capture, Gradients, Observer
from preftrace.attribute.first_pair import compare, plain_gradients
from preftrace.models.logprobs import length_batches
from preftrace.models.losses import dpo_loss, reward_loss, sft_loss
from preftrace.models.packing import packed_length
from preftrace.models.prompts import Encoded
from preftrace.types import Checkpoint, prompt_from_json

SIDES = {"sft": ("chosen",), "dpo": ("chosen", "rejected"), "reward": ("chosen", "rejected")}
"""Kind of loss -> the answers that it looks at."""


def load_model(checkpoint: Mapping[str, Any], kind: str, format: str, precision: str) -> models.LanguageModel:
    """The model whose parameters a loss of this kind is a function of, its adapter on."""
    chain = Checkpoint(checkpoint["model"], tuple(checkpoint["adapters"]))
    load = models.load_reward if kind == "reward" else models.load
    return load(chain, format, precision=precision)


class PairModel:
    """A stage's model, its pairs as tokens, and its loss. Once it has given gradients, `lm` is good for nothing else.

    Args:
        checkpoint: fields of the stage's `Checkpoint`.
        pairs: a Parquet file with the columns id, prompt_json, chosen, rejected, meta: the pairs that were trained on.
        loss: `kind` (`sft`, `dpo` or `reward`), `max_length`, and the settings of the stage that its loss depends on:
            `beta` (dpo); `margin`, `label_smoothing` and `centring` (reward).
        format: prompt format.
        precision: as in `models.load`.
        batch_tokens: padded tokens of one pass.
        layers: as in `AttributeConfig`.
    """

    def __init__(
        self,
        checkpoint: Mapping[str, Any],
        pairs: str,
        loss: Mapping[str, Any],
        format: str,
        precision: str = "auto",
        batch_tokens: int = 768,
        layers: Sequence[str] = (),
    ) -> None:
        self.lm = load_model(checkpoint, loss["kind"], format, precision)
        self.loss, self.batch_tokens, self.layers = loss, batch_tokens, layers
        self._capture: Capture | None = None
        # Texts only: the tokens of all pairs would be most of the memory, and they would be waited for.
        self._pairs = artifacts.read_table(Path(pairs)).select(["prompt_json", "chosen", "rejected", "meta"])

    def rows(self, start: int, stop: int) -> list[tuple[Encoded, ...]]:
        """Tokens of pairs start..stop: the answers that the loss looks at, each with its prompt."""
        return [self._encode(pair) for pair in self._texts(start, stop)]

    def _texts(self, start: int, stop: int) -> list[dict[str, Any]]:
        texts: list[dict[str, Any]] = self._pairs.slice(start, stop - start).to_pylist()
        return texts

    def _margins(self, start: int, stop: int) -> np.ndarray:
        """What each chosen answer's reward should be above by, `(stop - start,)`; 0 for losses without margins."""
        key = self.loss.get("margin")
        # Pairs without a margin stopped the training, so those that were trained on have one.
        found = [json.loads(pair["meta"])[key] if key else 0.0 for pair in self._texts(start, stop)]
        return np.array(found, dtype=float)

    def _encode(self, pair: Mapping[str, Any]) -> tuple[Encoded, ...]:
        """The answers that the loss looks at, with the prompt that they were trained with."""
        answers = [pair[side] for side in SIDES[self.loss["kind"]]]
        prompt = prompt_from_json(pair["prompt_json"])
        return models.encode_answers(self.lm.tokenizer, prompt, answers, self.lm.format, self.loss["max_length"])

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Matrix -> its shape, of those that influence looks at."""
        return {name: (a, b) for name, (a, b) in Capture(self.lm, self.layers).shapes.items()}

    def gradients(
        self,
        start: int,
        stop: int,
        reference: np.ndarray | None,
        observe: Observer | None = None,
        *,
        apart: bool = False,
    ) -> Iterator[tuple[list[int], Gradients]]:
        """Per-pair gradients of pairs start..stop, in batches of like length: (positions from start, gradients).

        Args:
            start: of the pairs.
            stop: of the pairs.
            reference: `(stop - start, 2)` log pi_ref of the answers, or None where the loss has no reference.
            observe: as in `Capture`.
            apart: each answer's part of the gradient by itself, its prompt too: all chosen answers' first, then the
                rejected ones'.

        Raises:
            ModelError: the model is one whose gradients hooks do not give.
        """
        sides = len(SIDES[self.loss["kind"]])
        tokens, margins = self.rows(start, stop), self._margins(start, stop)
        lengths = [sum(packed_length([row]) for row in pair) if apart else packed_length(pair) for pair in tokens]
        capture = self._captured(tokens[lengths.index(min(lengths))])
        capture.observe = observe
        for batch in length_batches(lengths, self.batch_tokens):
            rows = [tokens[i][side] for side in range(sides) for i in batch]
            given = None if reference is None else reference[batch]
            objective = self._objective(rows, given, margins[batch])
            groups = range(len(rows)) if apart else [*range(len(batch))] * sides
            yield batch, capture.gradients(rows, groups, objective)

    def _captured(self, pair: Sequence[Encoded]) -> Capture:
        """Entered once and for good: folding the adapter into the weights takes as long as a few gradients.

        Then the hooks' gradients of a pair are held against plain ones.
        """
        if self._capture is None:
            capture = Capture(self.lm, self.layers)
            plain = plain_gradients(capture, pair)
            capture.__enter__()
            compare(capture, pair, plain)
            self._capture = capture
        return self._capture

    def _objective(self, rows: list[Encoded], reference: np.ndarray | None, margins: np.ndarray) -> Any:
        """From the values of `rows`, all chosen answers first, to the pairs' losses."""
        n = len(margins)

        def like(values: np.ndarray, to: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(values, dtype=to.dtype, device=to.device)

        def sft(values: torch.Tensor) -> torch.Tensor:
            return sft_loss(values, like(np.array([len(row.answer_ids) for row in rows]), values))

        def dpo(values: torch.Tensor) -> torch.Tensor:
            assert reference is not None
            ref = like(reference, values)
            return dpo_loss(values[:n], values[n:], ref[:, 0], ref[:, 1], self.loss["beta"])

        def reward(values: torch.Tensor) -> torch.Tensor:
            smoothing, centring = self.loss["label_smoothing"], self.loss["centring"]
            return reward_loss(values[:n], values[n:], like(margins, values), smoothing, centring)

        return {"sft": sft, "dpo": dpo, "reward": reward}[self.loss["kind"]]
