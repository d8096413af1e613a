"""Any server with OpenAI's interface (https://platform.openai.com/docs/api-reference): vLLM, SGLang, hosted services.

Raw prompts go to `/completions`, chat prompts to `/chat/completions`. Each answer is a request of its own with its own
seed, so that none is lost with its neighbours. Which weights stand behind a name only the server knows: the identity of
what is evaluated is the base URL, the model's name, what the server reports of both, and the tokenizer's content.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, field_validator

from preftrace import artifacts, models, progress
from preftrace.errors import ConfigError, ModelError
from preftrace.evaluate.backend import Answer, Backend, BackendConfig, Identity, OptionScore, Target
from preftrace.evaluate.backends import _openai as wire
from preftrace.evaluate.client import Client, Incomplete, Refused, whole_text
from preftrace.evaluate.remote import SECRET, base_problem
from preftrace.types import Checkpoint, Prompt, Sampling, prompt_to_json, readable

VERSION = 1
LOCAL = False
KEY = (401, 403)
"""Statuses that say that the key is wrong."""
LASTING = ("root", "parent", "owned_by", "max_model_len")
"""What a server's list says of a model that stays the same as long as the model does."""
OPEN = frozenset({"prompt_cache_key"})
"""Fields of the interface whose names sound like secrets and that are none."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
T = TypeVar("T")


class Config(BackendConfig):
    """Where the server is, what the model is called there, and how patient to be."""

    SPEED: ClassVar[frozenset[str]] = frozenset({"key_env", "timeout", "retries", "backoff", "concurrency"})

    name: Literal["openai"] = Field("openai", description="a server with OpenAI's interface")
    base_url: str = Field("http://127.0.0.1:8000/v1", description="the server's address, up to and with /v1")
    model: str = Field(
        "{model}", description="the served model's name; {model} is the evaluated model's, {stage} its stage's"
    )
    tokenizer: str | None = Field(
        None, description="folder or Hub id of the served model's tokenizer: prompts are then sent as tokens"
    )
    extra: dict[str, Any] = Field(
        default_factory=dict, description="further fields of every request, such as top_k: 0; null leaves a field out"
    )
    key_env: str = Field("OPENAI_API_KEY", description="environment variable that holds the key; unset: none is sent")
    timeout: float = Field(120.0, gt=0, description="seconds to connect, and between two bytes of an answer")
    retries: int = Field(5, ge=0, description="how often a request is sent again after 429, 5xx and broken answers")
    backoff: float = Field(1.0, ge=0, description="seconds before the first of these; doubled each time")
    concurrency: int = Field(8, ge=1, description="requests under way at a time, in each worker")

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if problem := base_problem(value):
            raise ValueError(problem)
        return value.rstrip("/")

    @field_validator("extra")
    @classmethod
    def _holds_no_key(cls, value: dict[str, Any]) -> dict[str, Any]:
        held = [name for name in value if SECRET.fullmatch(name) and name not in OPEN]
        if held:
            raise ValueError(f"{held[0]} would be written into every result; a key is read from key_env")
        return value

    @field_validator("key_env")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError("must be the name of an environment variable, never the key itself")
        return value

    def client(self) -> Client:
        """What asks the server."""
        key = os.environ.get(self.key_env, "").strip()
        return Client(self.base_url, key, self.timeout, self.retries, self.backoff)

    def explained(self, where: str, error: Refused, more: str = "") -> ModelError:
        """A refusal in words, with where the key comes from if it is about the key."""
        hint = f" The key is read from the environment variable {self.key_env}." if error.status in KEY else ""
        return ModelError(f"{where}: {error}.{more}{hint}")


def identify(config: Config, checkpoint: Checkpoint, stage: str, format: str, known: str | None) -> Identity:
    """The hash of base URL, model name, what the server reports of itself, and the tokenizer where one is named."""
    if checkpoint.adapters and "{model}" in config.model and "{stage}" not in config.model:
        raise ConfigError(
            [
                "backend openai: a server is not given adapters from here. Serve the trained model, and say its name "
                "there with model: NAME, or NAME-{stage}"
            ]
        )
    name = config.model.replace("{model}", checkpoint.model).replace("{stage}", stage)
    said = {"served": name, **_reported(config, name, format)}
    if config.tokenizer is not None:
        # It decides which tokens are sent, and what a chat looks like.
        said["tokens_by"] = models.fingerprint(config.tokenizer)
    return Identity(artifacts.hash_json([config.base_url, said]), said)


def _reported(config: Config, name: str, format: str) -> dict[str, Any]:
    """What the server says of a model: its own fingerprint (None where it has none), and lasting facts of its list."""
    client = config.client()
    try:
        listed = client.get("models", lambda answer: {str(each["id"]): each for each in answer["data"]})
    except Refused as error:
        listed = {}
        if error.status in KEY:
            raise config.explained("backend openai", error) from error
    try:
        path, body, _ = wire.Asking(name, format, config.extra).hello()
        fingerprint = client.post(path, body, lambda answer: answer["choices"] and answer.get("system_fingerprint"))
    except Refused as error:
        known = f" It serves: {', '.join(sorted(listed)[:10])}." if listed and name not in listed else ""
        raise config.explained(f"backend openai, model '{name}'", error, known) from error
    facts = {key: _fact(listed.get(name, {}).get(key)) for key in LASTING}
    return {"fingerprint": _fact(fingerprint), "listed": {k: v for k, v in facts.items() if v is not None}}


def _fact(value: object) -> str | int | None:
    """A text or a whole number that a server reports; None for anything else."""
    if isinstance(value, str):
        return whole_text(value) or None
    return value if isinstance(value, int) else None


def build(config: Config, target: Target) -> Backend:
    """The server, ready to be asked."""
    return Server(config, target)


class Server:
    """A served model.

    Args:
        config: the settings.
        target: what is evaluated.
    """

    def __init__(self, config: Config, target: Target) -> None:
        self.config, self.target, self.client = config, target, config.client()
        self.asking = wire.Asking(target.said["served"], target.format, config.extra)
        self.tokenizer = models.load_tokenizer(config.tokenizer, target.format) if config.tokenizer else None
        self.way: wire.Way | None = None
        self._told: set[str] = set()

    def render(self, prompts: Sequence[Prompt]) -> list[str]:
        """The text; of a chat without a tokenizer its turns as JSON, since the server renders them."""
        if self.tokenizer is not None:
            return [models.render(prompt, self.tokenizer, self.target.format) for prompt in prompts]
        return [readable(p) if self.target.format == "raw" else prompt_to_json(p) for p in prompts]

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Answer]]:
        """One request for each answer, `concurrency` of them at a time."""
        texts = [self._text(prompt) for prompt in prompts]
        jobs = [
            self.asking.answer(prompt, text, sampling, seed)
            for prompt, text, own in zip(prompts, texts, seeds, strict=True)
            for seed in own[: sampling.samples]
        ]
        drawn = iter(_together(self.config.concurrency, jobs, self._draw))
        return [[next(drawn) for _ in own[: sampling.samples]] for own in seeds]

    def logprobs(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        """A request for each prompt and each option; an option's tokens are those after the prompt's own."""
        if self.way is None:
            self.way = self._find_way(prompts[0])
        jobs = [
            self._scored(prompt, option, self.way)
            for prompt, own in zip(prompts, options, strict=True)
            for option in (("", *own) if own else ())
        ]
        found = iter(_together(self.config.concurrency, jobs, self._score))
        return [self._item(own, [next(found) for _ in range(len(own) + 1)]) if own else [] for own in options]

    def _item(self, own: Sequence[str], found: Sequence[wire.Scores]) -> list[OptionScore]:
        prompt, *full = found
        scores = [wire.option_score(prompt, each) for each in full]
        for option, score in zip(own, scores, strict=True):
            if score is None:
                self._tell(f"a token lies across the border of a prompt and the option {option!r}; it is missing")
        return [score or OptionScore(float("nan"), 0) for score in scores]

    def _find_way(self, prompt: Prompt) -> wire.Way:
        """How this server tells the log-likelihood of given text, by asking it."""
        refused = []
        for way in wire.ways(self.target.format, self.tokenizer is not None):
            path, body, _ = self._scored(prompt, "Yes.", way)
            try:
                if self.client.post(path, body, partial(wire.read_scores, way=way)) is not None:
                    return way
                refused.append(f"{way}: its answer has none")
            except Refused as error:
                if error.status in KEY:
                    raise self.config.explained(self.target.vertical, error) from error
                refused.append(f"{way}: {error}")
        raise ModelError(
            f"{self.target.vertical} needs log-likelihoods of given answers, and {self.config.base_url} tells none for "
            f"{self.asking.model} ({'; '.join(refused)}). Use a server that returns prompt log-probabilities, as vLLM "
            f"and SGLang do{self._chat_hint()}, or backend hf, or leave {self.target.vertical} out."
        )

    def _chat_hint(self) -> str:
        known = self.target.format == "raw" or self.tokenizer is not None
        return "" if known else ", or set tokenizer: so that chats are rendered here"

    def _scored(self, prompt: Prompt, option: str, way: wire.Way) -> wire.Asked:
        return self.asking.scored(prompt, self._text(prompt), self._tail(prompt, option), way)

    def _text(self, prompt: Prompt) -> wire.Text:
        if self.tokenizer is not None:
            return list(models.encode(self.tokenizer, prompt, "", self.target.format, eos=False).prompt_ids)
        return readable(prompt) if self.target.format == "raw" else None

    def _tail(self, prompt: Prompt, option: str) -> wire.Text:
        if self.tokenizer is not None:
            return list(models.encode(self.tokenizer, prompt, option, self.target.format, eos=False).answer_ids)
        return models.answer_text(option, self.target.format)

    def _draw(self, asked: wire.Asked) -> Answer:
        return self._ask(asked, lambda answer: wire.read_answer(answer, asked))

    def _score(self, asked: wire.Asked) -> wire.Scores:
        def read(answer: Mapping[str, Any]) -> wire.Scores:
            assert self.way is not None
            scores = wire.read_scores(answer, self.way)
            if scores is None:
                raise Incomplete("it has no log-probabilities")
            return scores

        return self._ask(asked, read)

    def _ask(self, asked: wire.Asked, read: Callable[[Mapping[str, Any]], T]) -> T:
        def reading(answer: Mapping[str, Any]) -> T:
            value = read(answer)
            self._watch(answer)
            return value

        try:
            return self.client.post(asked.path, asked.body, reading)
        except Refused as error:
            raise self.config.explained(self.target.vertical, error) from error

    def _watch(self, answer: Mapping[str, Any]) -> None:
        """Say so once where the server reports to be another than at the start."""
        before, now = self.target.said.get("fingerprint"), answer.get("system_fingerprint")
        if before and now and now != before:
            self._tell(f"the server's fingerprint was {before} and is {now}: it may not be the same model any more")

    def _tell(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            progress.say(f"{self.target.vertical}: {message}")


def _together(concurrency: int, jobs: Sequence[Any], work: Callable[[Any], T]) -> list[T]:
    """`work` of each job, in order; the first failure ends the rest."""
    with ThreadPoolExecutor(concurrency) as threads:
        try:
            return list(threads.map(work, jobs))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
