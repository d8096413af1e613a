"""The shard worker of an evaluation: a batch of items in, what the model says and how likely the options are out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from preftrace import models
from preftrace.engines._base import Shard, ShardOutput
from preftrace.types import Checkpoint, Sampling, prompt_from_json

PROMPTS = pa.schema([("item_id", pa.string()), ("prompt", pa.string())])
RESPONSES = pa.schema(
    [
        ("item_id", pa.string()),
        ("sample", pa.int64()),
        ("seed", pa.int64()),
        ("response", pa.string()),
        ("response_ids", pa.list_(pa.int32())),
        ("finished", pa.bool_()),
    ]
)
LOGPROBS = pa.schema(
    [("item_id", pa.string()), ("option", pa.int64()), ("logprob", pa.float64()), ("tokens", pa.int64())]
)


class Worker:
    """Holds the model. Judging and scoring are not done here, so that they can be redone without it.

    Args:
        model: starting model.
        adapters: adapter folders, oldest first; all are merged.
        model_hash: content hash of both.
        format: prompt format.
        precision: as in `models.load`.
        sampling: fields of `Sampling`, or None where nothing is generated.
    """

    def __init__(
        self,
        model: str,
        adapters: Sequence[str],
        model_hash: str,
        format: str,
        precision: str,
        sampling: Mapping[str, Any] | None,
    ) -> None:
        self.lm = _load(model, tuple(adapters), model_hash, format, precision)
        self.sampling = Sampling(**sampling) if sampling else None

    def run(self, shard: Shard) -> ShardOutput:
        """One batch: `items` holds objects with id, prompt (JSON), options (texts) and seeds."""
        items = shard["items"]
        prompts = [prompt_from_json(item["prompt"]) for item in items]
        rendered = [models.render(prompt, self.lm.tokenizer, self.lm.format) for prompt in prompts]
        columns = {"item_id": [item["id"] for item in items], "prompt": rendered}
        return {
            "prompts": pa.table(columns, schema=PROMPTS),
            "responses": pa.Table.from_pylist(self._responses(items, prompts), schema=RESPONSES),
            "logprobs": pa.Table.from_pylist(self._logprobs(items, prompts), schema=LOGPROBS),
        }

    def _responses(self, items: Sequence[Mapping[str, Any]], prompts: Sequence[Any]) -> list[dict[str, Any]]:
        if self.sampling is None:
            return []
        drawn = models.sample(self.lm, prompts, self.sampling, [item["seeds"] for item in items])
        return [
            {
                "item_id": item["id"],
                "sample": number,
                "seed": item["seeds"][number],
                "response": response.text,
                "response_ids": list(response.ids),
                "finished": response.finished,
            }
            for item, responses in zip(items, drawn, strict=True)
            for number, response in enumerate(responses)
        ]

    def _logprobs(self, items: Sequence[Mapping[str, Any]], prompts: Sequence[Any]) -> list[dict[str, Any]]:
        keys = [(item["id"], number) for item in items for number in range(len(item["options"]))]
        rows = [
            models.encode(self.lm.tokenizer, prompt, option, self.lm.format, eos=False)
            for item, prompt in zip(items, prompts, strict=True)
            for option in item["options"]
        ]
        values = models.completion_logprobs(self.lm, rows)
        return [
            {"item_id": item_id, "option": number, "logprob": float(value), "tokens": len(row.answer_ids)}
            for (item_id, number), row, value in zip(keys, rows, values, strict=True)
        ]


@lru_cache(maxsize=1)
def _load(model: str, adapters: tuple[str, ...], model_hash: str, format: str, precision: str) -> models.LanguageModel:
    """One checkpoint stays in memory, since a stage's verticals follow one another; the hash tells new weights."""
    return models.load(Checkpoint(model, adapters), format, merge=True, precision=precision)
