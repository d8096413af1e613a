"""Backends: what runs the model of an evaluation. Chosen by name: `hf`, `vllm`, or `openai` for a server.

A backend draws answers and reads log-likelihoods; items, judging and scoring are the same whatever it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

from pydantic import Field, ValidationError

from preftrace.config import Config, faults
from preftrace.errors import ConfigError
from preftrace.registry import BACKENDS
from preftrace.types import Checkpoint, Prompt, Sampling

DEFAULT = "hf"


class BackendConfig(Config):
    """Which backend it is; every backend adds its own fields."""

    name: str = Field(DEFAULT, description="hf (transformers, in this process), vllm, or openai (a compatible server)")


class Answer(NamedTuple):
    """One drawn answer.

    Attributes:
        text: what it says, without the end token and without anything said for the user.
        ids: its tokens; None where the backend does not tell them.
        finished: whether the model ended it, rather than the token limit.
    """

    text: str
    ids: tuple[int, ...] | None
    finished: bool


class OptionScore(NamedTuple):
    """Log-likelihood of an option in nats (NaN where it is missing), and of how many tokens it is the sum."""

    logprob: float
    tokens: int


class Identity(NamedTuple):
    """What is evaluated: a hash that changes with the model, and what the record says of it."""

    model: str
    said: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """What a backend runs, and for what.

    Attributes:
        checkpoint: the model.
        stage: name of the stage that it is of.
        vertical: name of the vertical, for messages.
        format: prompt format, `raw` or `chat`.
        precision: as in `models.load`.
        model_hash: the identity's hash.
        said: the identity's facts.
        opening: two prompts (JSON), or none: what both start with, every prompt that has options starts with.
        longest: the longest prompt (JSON) of those that answers are drawn to; "": none are.
        max_new_tokens: longest answer that is drawn.
    """

    checkpoint: Checkpoint
    stage: str
    vertical: str
    format: str
    precision: str
    model_hash: str
    said: Mapping[str, Any] = field(default_factory=dict)
    opening: tuple[str, ...] = ()
    longest: str = ""
    max_new_tokens: int = 0


class Backend(Protocol):
    """Runs one model."""

    def render(self, prompts: Sequence[Prompt]) -> list[str]:
        """What the model is given for each prompt, as far as this side knows it."""
        ...

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Answer]]:
        """Draw answers: `seeds[i][j]` is of answer j to prompt i."""
        ...

    def logprobs(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        """Log-likelihood of each of `options[i]` as the answer to prompt i."""
        ...


class BackendModule(Protocol):
    """What a file in `backends/` defines.

    `VERSION` is raised whenever its results may differ; `LOCAL` says whether it loads the checkpoint's own weights.
    """

    VERSION: int
    LOCAL: bool
    Config: type[BackendConfig]

    def identify(
        self, config: BackendConfig, checkpoint: Checkpoint, stage: str, format: str, known: str | None
    ) -> Identity:
        """What will be evaluated. `known` is the checkpoint's content hash, where the caller has it.

        Raises:
            ConfigError: the backend cannot run this checkpoint.
            ModelError: the model is not there.
        """
        ...

    def build(self, config: BackendConfig, target: Target) -> Backend:
        """The backend, ready to run.

        Raises:
            ConfigError: what it needs is not installed.
            ModelError: the model cannot be loaded or reached.
        """
        ...


def load(name: str) -> BackendModule:
    """The backend called `name`.

    Raises:
        ConfigError: no such backend.
    """
    return cast(BackendModule, BACKENDS.load(name))


def configure(given: str | Mapping[str, Any] | BackendConfig | None = None) -> BackendConfig:
    """A backend's settings from its name, or from plain values with `name` among them; None is the default.

    Raises:
        ConfigError: unknown backend, unknown keys or bad values, all together.
    """
    if isinstance(given, BackendConfig):
        return given
    values = {"name": given} if isinstance(given, str) else dict(given or {})
    name = str(values.setdefault("name", DEFAULT))
    model = load(name).Config
    try:
        return model(**values)
    except ValidationError as error:
        raise ConfigError(list(map(str, faults(error, model))), f"the options of backend {name}") from error
