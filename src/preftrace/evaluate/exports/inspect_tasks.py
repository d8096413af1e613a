"""Verticals as tasks of Inspect (https://inspect.aisi.org.uk), and a model provider that gives them the same prompts.

Inspect finds them by the package's entry point: `inspect eval preftrace/toxicity --model preftrace/starter`. Other
providers take chats only and tell no log-likelihoods of given answers: with them drawn answers are judged as ever, and
what is computed from options is missing, or refused where nothing else is left.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import anyio.to_thread
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    get_model,
    modelapi,
)
from inspect_ai.scorer import SampleScore, Score, mean, metric, scorer, stderr
from inspect_ai.solver import solver

from preftrace import models
from preftrace.errors import ModelError
from preftrace.evaluate.backends.hf import Loaded
from preftrace.evaluate.exports.exported import Exported, labels, mean_of
from preftrace.evaluate.runner import sample_seed
from preftrace.registry import VERTICALS
from preftrace.types import Item, Message, Prompt, Sampling

TEXT = "preftrace_text"
"""Marks a message that is a plain text to be continued."""
TURNS = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


class Preftrace(ModelAPI):  # type: ignore[misc]
    """A model in this process, with preftrace's prompts and draws, and log-likelihoods of options.

    Args:
        model_name: `starter`, a Hub id, a folder, or the folder of a finished training stage.
        base_url: none.
        api_key: none.
        config: Inspect's settings.
        format: prompt format, `raw` or `chat` (`-M format=chat`).
        precision: as in `models.load`.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: Any = None,
        format: str = "raw",
        precision: str = "auto",
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        lm = models.load(models.resolve_checkpoint(model_name), format, merge=True, precision=precision)
        self._loaded, self._lock = Loaded(lm), threading.Lock()

    async def generate(self, input: list[Any], tools: Any, tool_choice: Any, config: Any) -> Any:
        """One answer, drawn with `config.seed` from the full distribution at `config.temperature` (0: greedy)."""
        temperature = 1.0 if config.temperature is None else float(config.temperature)
        sampling = Sampling(1, int(config.max_tokens or self.max_tokens()), temperature)
        drawn = await self._in_turn(self._loaded.sample, [_prompt(input)], sampling, [[int(config.seed or 0)]])
        answer = drawn[0][0]
        return ModelOutput.from_content(self.model_name, answer.text, "stop" if answer.finished else "max_tokens")

    async def option_logprobs(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        """Log-likelihood of each option after a prompt."""
        scored = await self._in_turn(self._loaded.logprobs, [prompt], [list(options)])
        return [score.logprob for score in scored[0]]

    def max_tokens(self) -> int:
        """Longest answer where the task says nothing."""
        return 32

    def max_connections(self) -> int:
        """Prompts are answered one by one."""
        return 1

    async def _in_turn(self, function: Callable[..., Any], *args: Any) -> Any:
        def alone() -> Any:
            with self._lock:
                return function(*args)

        return await anyio.to_thread.run_sync(alone)


def _provider() -> type[Preftrace]:
    """The provider behind `--model preftrace/MODEL`."""
    return Preftrace


def _prompt(messages: Sequence[Any]) -> Prompt:
    if len(messages) == 1 and (messages[0].metadata or {}).get(TEXT):
        return str(messages[0].text)
    return tuple(Message(message.role, message.text) for message in messages)


def _messages(prompt: Prompt) -> list[Any]:
    if isinstance(prompt, str):
        return [ChatMessageUser(content=prompt, metadata={TEXT: True})]
    return [TURNS[message.role](content=message.content) for message in prompt]


@lru_cache(maxsize=16)
def _exported(vertical: str, options: str, seed: int) -> Exported:
    return Exported(vertical, json.loads(options), seed)


def _answers(vertical: str, options: str, seed: int) -> Callable[..., Awaitable[Any]]:
    """Draws a vertical's answers, each with its own seed, and reads its options where the provider can.

    Args:
        vertical: its name.
        options: its settings as JSON.
        seed: of items and draws.
    """
    exported = _exported(vertical, options, seed)
    items = {item.id: item for item in exported.items}

    async def solve(state: Any, generate: Any) -> Any:
        item, model = items[state.sample_id], get_model()
        responses: list[str] = []
        for number in range(exported.sampling.samples if exported.sampling is not None else 0):
            assert exported.sampling is not None
            config = GenerateConfig(
                temperature=exported.sampling.temperature,
                max_tokens=exported.sampling.max_new_tokens,
                seed=sample_seed(seed, item.id, number),
            )
            state.output = await model.generate(state.messages, config=config)
            responses.append(state.output.completion.strip())
        state.store.set("responses", responses)
        state.store.set("option_logprobs", await _logprobs(vertical, item, model.api, exported))
        return state

    return solve


async def _logprobs(vertical: str, item: Item, api: Any, exported: Exported) -> list[float]:
    if not item.options:
        return []
    if isinstance(api, Preftrace):
        return await api.option_logprobs(item.prompt, [option.text for option in item.options])
    if exported.sampling is None:
        raise ModelError(
            f"{vertical} needs log-likelihoods of given answers, which this provider does not tell: use --model "
            "preftrace/MODEL, or preftrace evaluate MODEL --backend openai or vllm"
        )
    return [math.nan] * len(item.options)


def _judged(vertical: str, options: str, seed: int) -> Callable[..., Awaitable[Any]]:
    """Judges the answers to one item by the vertical's own code: trust and its measures, NaN where missing.

    Args:
        vertical: its name.
        options: its settings as JSON.
        seed: of the items.
    """
    exported = _exported(vertical, options, seed)
    items = {item.id: item for item in exported.items}

    async def score(state: Any, target: Any) -> Any:
        item = items[state.sample_id]
        responses, logprobs = state.store.get("responses"), state.store.get("option_logprobs")
        found = await anyio.to_thread.run_sync(partial(exported.judge, item, responses, logprobs))
        return Score(
            value={name: found.values.get(name, math.nan) for name in exported.measures},
            answer=responses[0] if responses else None,
            metadata={
                "responses": responses,
                "option_logprobs": logprobs,
                "outcomes": found.outcomes,
                "weights": found.weights,
            },
        )

    return score


def _weighed(measure: str) -> Callable[[list[SampleScore]], float]:
    """Mean over items as preftrace has it: by weight, items of one unit as one.

    Args:
        measure: whose mean it is.
    """

    def total(scores: list[SampleScore]) -> float:
        weights = [(one.score.metadata or {}).get("weights", {}).get(measure, 1.0) for one in scores]
        units = [(one.sample_metadata or {}).get("preftrace", {}).get("unit", "") for one in scores]
        own = units if measure != "missing" else [""] * len(units)
        return mean_of([float(one.score.value) for one in scores], weights, own)

    return total


answers = solver(name="answers")(_answers)
judged = scorer(metrics={"*": [mean(), stderr()]}, name="judged")(_judged)
weighed = metric(name="mean")(_weighed)
provider = modelapi(name="preftrace")(_provider)


def vertical_task(vertical: str, options: Mapping[str, Any] | None = None, seed: int = 0) -> Any:
    """A vertical as an Inspect task.

    Args:
        vertical: its name.
        options: fields of its settings.
        seed: of items and draws.

    Raises:
        ConfigError: wrong settings.
    """
    said = json.dumps(dict(options or {}), sort_keys=True)
    exported = _exported(vertical, said, seed)
    samples = [
        Sample(
            id=item.id,
            input=_messages(item.prompt),
            target=[option.text for option in item.options if option.good] or "",
            metadata={
                "cluster": item.cluster,
                "options": [option.text for option in item.options],
                "preftrace": labels(item),
            },
        )
        for item in exported.items
    ]
    return Task(
        dataset=MemoryDataset(samples, name=f"preftrace-{vertical}"),
        solver=answers(vertical, said, seed),
        scorer=judged(vertical, said, seed),
        metrics={name: [weighed(name), stderr(cluster="cluster")] for name in exported.measures},
        version=exported.module.VERSION,
        metadata={
            "vertical": vertical,
            "settings": exported.config.identity(),
            "seed": seed,
            "higher_is_better": exported.measures,
        },
    )


def _register(vertical: str) -> Any:
    def build(seed: int = 0, **options: Any) -> Any:
        return vertical_task(vertical, options, seed)

    build.__doc__ = f"The {vertical} vertical; its settings are the task's parameters (-T limit=20)."
    return task(name=vertical)(build)


TASKS = {name: _register(name) for name in VERTICALS.names()}
