"""Bodies and answers of OpenAI's interface, as plain values: what is sent, and what is read from what comes back.

Log-likelihoods of given text come in two ways: `echo` of `/completions`, where the answer repeats the prompt with its
log-probabilities, and `prompt_logprobs` (vLLM's extension, for `/chat/completions` too).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from preftrace.evaluate.backend import Answer, OptionScore
from preftrace.evaluate.client import Incomplete, whole_text
from preftrace.models.prompts import RAW_STOP
from preftrace.types import Message, Prompt, Sampling

Way = Literal["echo", "prompt_logprobs"]
Text = str | list[int] | None
"""A prompt as text, as tokens, or None: a chat that only the server can render."""
COMPLETIONS, CHAT = "completions", "chat/completions"
ROUNDING = 1e-3


class Asked(NamedTuple):
    """A request: its path, its body, and where a raw conversation's answer ends ("" where nothing ends it)."""

    path: str
    body: Mapping[str, Any]
    stop: str = ""


class Scores(NamedTuple):
    """The tokens of a given text as the server names them, and each one's log-probability (NaN: none was told)."""

    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]


class Asking:
    """Writes requests for one model.

    Args:
        model: its name at the server.
        format: prompt format, `raw` or `chat`.
        extra: further fields; None leaves a field out.
    """

    def __init__(self, model: str, format: str, extra: Mapping[str, Any]) -> None:
        self.model, self.format, self.extra = model, format, extra

    def hello(self) -> Asked:
        """The smallest request there is, to hear from the model."""
        prompt = "Hello"
        return self._asked(prompt, prompt if self.format == "raw" else None, {"max_tokens": 1, "temperature": 0})

    def answer(self, prompt: Prompt, text: Text, sampling: Sampling, seed: int) -> Asked:
        """One answer. Servers take seeds of 31 bits, so that is what is sent of each."""
        stop = RAW_STOP if self.format == "raw" and not isinstance(prompt, str) else ""
        fields: dict[str, Any] = {
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": 1,
            "n": 1,
            "seed": seed % 2**31,
            "stop": [stop] if stop else None,
        }
        return self._asked(prompt, text, fields)._replace(stop=stop)

    def scored(self, prompt: Prompt, text: Text, tail: Text, way: Way) -> Asked:
        """The log-probabilities of a prompt's tokens and of those of `tail` after it."""
        fields: dict[str, Any] = {"max_tokens": 1, "temperature": 0}
        fields |= {"echo": True, "logprobs": 1} if way == "echo" else {"prompt_logprobs": 0}
        if text is None:
            continued = {"add_generation_prompt": False, "continue_final_message": True} if tail else {}
            return self._asked(prompt, None, fields | continued, str(tail or ""))
        return self._asked(prompt, text + tail if tail else text, fields)  # type: ignore[operator]

    def _asked(self, prompt: Prompt, text: Text, fields: Mapping[str, Any], said: str = "") -> Asked:
        start: dict[str, Any] = {"model": self.model}
        if text is None:
            turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
            turns = (*turns, Message("assistant", said)) if said else turns
            start["messages"] = [{"role": turn.role, "content": turn.content} for turn in turns]
        else:
            start["prompt"] = text
        body = {**start, **fields, **self.extra}
        return Asked(
            CHAT if text is None else COMPLETIONS, {key: value for key, value in body.items() if value is not None}
        )


def ways(format: str, tokens: bool) -> tuple[Way, ...]:
    """The ways to log-likelihoods that may work; a chat that the server renders cannot be echoed."""
    return ("prompt_logprobs",) if format == "chat" and not tokens else ("echo", "prompt_logprobs")


def read_answer(answer: Mapping[str, Any], asked: Asked) -> Answer:
    """The one answer in an answer.

    Raises:
        Incomplete: no text, or no reason why it ended.
    """
    choice = answer["choices"][0]
    if not choice["finish_reason"]:
        raise Incomplete("no finish_reason")
    if asked.path == CHAT:
        message = choice["message"]
        text = message.get("content") or message.get("refusal") or ""
    else:
        text = choice["text"]
    if not isinstance(text, str):
        raise Incomplete("its text is none")
    ended = bool(asked.stop) and asked.stop in text
    ids = choice.get("token_ids")
    return Answer(
        whole_text(text.split(asked.stop)[0] if ended else text).strip(),
        tuple(ids) if isinstance(ids, list) and all(map(_is_token, ids)) else None,
        ended or choice["finish_reason"] != "length",
    )


def read_scores(answer: Mapping[str, Any], way: Way) -> Scores | None:
    """The log-probabilities of the text that was given; None where a whole answer has none.

    Raises:
        Incomplete: fewer numbers than tokens.
    """
    choice = answer["choices"][0]
    if way == "prompt_logprobs":
        entries = answer.get("prompt_logprobs") or choice.get("prompt_logprobs")
        return _from_entries(entries) if entries else None
    told = choice.get("logprobs")
    if not told or told.get("tokens") is None or told.get("token_logprobs") is None:
        return None
    given = int(answer["usage"]["prompt_tokens"])
    if len(told["tokens"]) != len(told["token_logprobs"]):
        raise Incomplete("its tokens and log-probabilities are of different number")
    if len(told["tokens"]) < given:
        return None
    return Scores(tuple(told["tokens"][:given]), tuple(map(_number, told["token_logprobs"][:given])))


def _from_entries(entries: Sequence[Mapping[str, Any] | None]) -> Scores | None:
    """The list of vLLM: for each token its id and log-probability, null for the first one."""
    pairs = [next(iter(entry.items())) if entry else ("", {}) for entry in entries]
    if any(entry is not None and len(entry) != 1 for entry in entries):
        return None
    return Scores(tuple(key for key, _ in pairs), tuple(_number(value.get("logprob")) for _, value in pairs))


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _number(value: Any) -> float:
    """A log-probability; NaN where it is none, since no probability is above 1 (but for rounding) or 0."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value <= ROUNDING
    return float(value) if known else math.nan


def option_score(prompt: Scores, full: Scores) -> OptionScore | None:
    """The log-likelihood of what stands after the prompt; None where the prompt's tokens are not those of `full`."""
    border = len(prompt.tokens)
    if full.tokens[:border] != prompt.tokens or len(full.tokens) == border:
        return None
    return OptionScore(math.fsum(full.logprobs[border:]), len(full.tokens) - border)
