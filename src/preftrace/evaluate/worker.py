"""The shard worker of an evaluation: a batch of items in, what the model says and how likely the options are out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from preftrace.engines._base import Shard, ShardOutput
from preftrace.evaluate import backend as backends
from preftrace.evaluate.backend import Target
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
    """Holds the backend. Judging and scoring are not done here, so that they can be redone without it.

    Args:
        backend: settings of the backend that its results depend on, its name among them.
        target: fields of `Target`, the checkpoint as its own fields.
        sampling: fields of `Sampling`, or None where nothing is generated.
        speed: settings of the backend that change no result, such as a timeout.
    """

    def __init__(
        self,
        backend: Mapping[str, Any],
        target: Mapping[str, Any],
        sampling: Mapping[str, Any] | None,
        speed: Mapping[str, Any],
    ) -> None:
        checkpoint = Checkpoint(target["checkpoint"]["model"], tuple(target["checkpoint"]["adapters"]))
        config = backends.configure({**backend, **speed})
        self.backend = backends.load(config.name).build(config, Target(**{**target, "checkpoint": checkpoint}))
        self.sampling = Sampling(**sampling) if sampling else None

    def run(self, shard: Shard) -> ShardOutput:
        """One batch: `items` holds objects with id, prompt (JSON), options (texts) and seeds."""
        items = shard["items"]
        prompts = [prompt_from_json(item["prompt"]) for item in items]
        columns = {"item_id": [item["id"] for item in items], "prompt": self.backend.render(prompts)}
        return {
            "prompts": pa.table(columns, schema=PROMPTS),
            "responses": pa.Table.from_pylist(self._responses(items, prompts), schema=RESPONSES),
            "logprobs": pa.Table.from_pylist(self._logprobs(items, prompts), schema=LOGPROBS),
        }

    def _responses(self, items: Sequence[Mapping[str, Any]], prompts: Sequence[Any]) -> list[dict[str, Any]]:
        if self.sampling is None:
            return []
        drawn = self.backend.sample(prompts, self.sampling, [item["seeds"] for item in items])
        # The scripts draw all samples of an item in one go, by the seed of the first.
        own = not self.sampling.as_scripts
        return [
            {
                "item_id": item["id"],
                "sample": number,
                "seed": item["seeds"][number if own else 0],
                "response": response.text,
                "response_ids": None if response.ids is None else list(response.ids),
                "finished": response.finished,
            }
            for item, responses in zip(items, drawn, strict=True)
            for number, response in enumerate(responses)
        ]

    def _logprobs(self, items: Sequence[Mapping[str, Any]], prompts: Sequence[Any]) -> list[dict[str, Any]]:
        if not any(item["options"] for item in items):
            return []
        scored = self.backend.logprobs(prompts, [item["options"] for item in items])
        return [
            {"item_id": item["id"], "option": number, "logprob": score.logprob, "tokens": score.tokens}
            for item, scores in zip(items, scored, strict=True)
            for number, score in enumerate(scores)
        ]
