"""Prompt formats: from a prompt and an answer to the tokens that a model sees.

`raw` is the same plain text for every stage: a text as it is, a conversation as an HH transcript. `chat` is the
tokenizer's own template. An answer is tokenised after its prompt so that no token spans the border. An option, whose
log-likelihood is read, is tokenised together with its prompt, as lm-evaluation-harness does it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from preftrace.errors import ModelError
from preftrace.types import Message, Prompt, readable

RAW_STOP = "\n\nHuman:"
"""A raw conversation's answer ends where the model starts to speak for the user."""


class Encoded(NamedTuple):
    """A prompt and an answer as token ids; `truncated` says that the prompt lost tokens on its left."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    truncated: bool


def render(prompt: Prompt, tokenizer: Any, format: str) -> str:
    """The text that the model is given.

    Args:
        prompt: a text or a conversation.
        tokenizer: a transformers tokenizer; only `chat` uses it.
        format: `raw` or `chat`.
    """
    if format == "raw":
        return readable(prompt)
    rendered: str = tokenizer.apply_chat_template(_messages(prompt), tokenize=False, add_generation_prompt=True)
    return rendered


def render_answered(prompt: Prompt, answer: str, tokenizer: Any) -> str:
    """A prompt and the answer to it as one conversation in the tokenizer's own template.

    Raises:
        ModelError: the template does not take such a conversation.
    """
    from jinja2 import TemplateError

    messages = [*_messages(prompt), {"role": "assistant", "content": answer}]
    try:
        rendered: str = tokenizer.apply_chat_template(messages, tokenize=False)
    except (TemplateError, ValueError) as error:
        raise ModelError(f"the chat template of '{tokenizer.name_or_path}' does not take a prompt: {error}") from error
    return rendered


def prompt_hash(rendered: str) -> str:
    """sha256 of a rendered prompt."""
    return hashlib.sha256(rendered.encode("utf-8", "surrogatepass")).hexdigest()


def encode(
    tokenizer: Any, prompt: Prompt, answer: str, format: str, max_length: int | None = None, eos: bool = True
) -> Encoded:
    """Tokens of a prompt and an answer.

    Args:
        tokenizer: a transformers tokenizer.
        prompt: a text or a conversation.
        answer: the answer's text.
        format: `raw` or `chat`.
        max_length: most tokens of both together. The prompt is cut from the left to fit and keeps at least one
            token; the answer is never cut, so that an answer of `max_length` tokens or more gives a longer row.
        eos: end the answer as the model ends its own: with the end-of-sequence token, or the template's end of turn.
            Without it, the answer is an option: its tokens are those of prompt and option as one text after as many
            as the prompt has alone, so that a tokenizer which merges over the border is followed (by itself, where
            no token is left).
    """
    head = render(prompt, tokenizer, format)
    prompt_ids = tokenizer(head, add_special_tokens=format == "raw")["input_ids"]
    tail = _tail(tokenizer, prompt, head, answer, format, eos)
    answer_ids = []
    if tail and not eos:
        answer_ids = tokenizer(head + tail, add_special_tokens=format == "raw")["input_ids"][len(prompt_ids) :]
    if tail and not answer_ids:
        answer_ids = tokenizer(tail, add_special_tokens=False)["input_ids"]
    if eos and (format == "raw" or not answer_ids or answer_ids[-1] not in tokenizer.all_special_ids):
        answer_ids = [*answer_ids, tokenizer.eos_token_id]
    room = len(prompt_ids) if max_length is None else max(max_length - len(answer_ids), 1)
    return Encoded(tuple(prompt_ids[-room:]), tuple(answer_ids), room < len(prompt_ids))


def encode_answers(
    tokenizer: Any, prompt: Prompt, answers: Sequence[str], format: str, max_length: int
) -> tuple[Encoded, ...]:
    """Tokens of several answers to one and the same prompt, which is cut from the left until each of them fits."""
    rows = [encode(tokenizer, prompt, answer, format, max_length) for answer in answers]
    shortest = min(rows, key=lambda row: len(row.prompt_ids))
    return tuple(row._replace(prompt_ids=shortest.prompt_ids, truncated=shortest.truncated) for row in rows)


def answer_text(answer: str, format: str) -> str:
    """An answer as it follows its prompt: after a space in `raw`, as it is in `chat`."""
    return f" {answer}" if format == "raw" and answer and not answer[0].isspace() else answer


def _tail(tokenizer: Any, prompt: Prompt, head: str, answer: str, format: str, eos: bool) -> str:
    if format == "raw" or not eos:
        return answer_text(answer, format)
    messages = [*_messages(prompt), {"role": "assistant", "content": answer}]
    full: str = tokenizer.apply_chat_template(messages, tokenize=False)
    return full[len(head) :].rstrip("\n") if full.startswith(head) else answer


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return [{"role": m.role, "content": m.content} for m in turns]
