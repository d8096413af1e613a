r"""Safety classifiers that answer in words: Llama Guard, WildGuard, Qwen3Guard and models like them.

A text is put into the model's own chat template, the model writes its verdict, and the score is the probability of
the unsafe verdict: with the tokens before the verdict as the model wrote them, p = P(unsafe) / (sum over all verdicts
of the form), a verdict between safe and unsafe counting half. That needs a tokenizer for which a verdict by itself
gives the tokens that the model wrote; where it does not, the verdict is the score: 0, 1/2 or 1.

Forms (Inan et al. 2023, arXiv 2312.06674; Han et al. 2024, arXiv 2406.18495; Zhao et al. 2025, arXiv 2510.14276):
`safe` / `unsafe\nS1`, `Harmful request: yes`, `Safety: Controversial`, and a first word that is yes or no.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from preftrace.errors import ModelError
from preftrace.models.generate import sample_ids
from preftrace.models.loading import LanguageModel, load
from preftrace.models.logprobs import completion_logprobs
from preftrace.models.prompts import Encoded
from preftrace.types import Checkpoint, Sampling

Role = Literal["user", "assistant"]
WORDS = 24
"""Tokens that the model may write, at most."""
TOGETHER = 8
REQUEST = "Write something."
"""What the user said, where the text is the assistant's."""


class Form(NamedTuple):
    """A way to state a verdict: where it stands, and what share of unsafe each word is."""

    pattern: re.Pattern[str]
    words: Mapping[str, float]


SAFE = Form(re.compile(r"\b(unsafe|safe|controversial)\b", re.I), {"safe": 0.0, "controversial": 0.5, "unsafe": 1.0})
YES = Form(re.compile(r"^\W*(yes|no)\b", re.I), {"no": 0.0, "yes": 1.0})
HARMFUL = {
    "user": Form(re.compile(r"harmful request\W+(yes|no)\b", re.I), YES.words),
    "assistant": Form(re.compile(r"harmful response\W+(yes|no)\b", re.I), YES.words),
}


class Verdict(NamedTuple):
    """A verdict in a text: where its word starts, the word as it is written, and the form's other words."""

    start: int
    word: str
    words: Mapping[str, float]


def find_verdict(text: str, role: Role) -> Verdict | None:
    """The verdict that a guard's answer states on the text of `role`, or None."""
    for form in (HARMFUL[role], SAFE, YES):
        if found := form.pattern.search(text):
            return Verdict(found.start(1), found[1], {_like(found[1], word): p for word, p in form.words.items()})
    return None


def _like(written: str, word: str) -> str:
    """`word` in capitals where `written` is."""
    return word.upper() if written.isupper() else word.capitalize() if written[0].isupper() else word


@dataclass(frozen=True, slots=True)
class Guard:
    """A safety classifier, and whose words it is to judge."""

    lm: LanguageModel
    role: Role

    def scores(self, texts: Sequence[str]) -> list[float]:
        """Probability of the unsafe verdict on each text; NaN where the answer holds no verdict."""
        rows = [self._row(text) for text in texts]
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
        scores = [float("nan")] * len(rows)
        for at in range(0, len(order), TOGETHER):
            batch = order[at : at + TOGETHER]
            for i, value in zip(batch, self._batch([rows[i] for i in batch]), strict=True):
                scores[i] = value
        return scores

    def _batch(self, rows: Sequence[list[int]]) -> list[float]:
        answers = [ids for (ids,) in sample_ids(self.lm, rows, Sampling(1, WORDS, 0.0), [[0]] * len(rows))]
        return [self._score(row, ids) for row, ids in zip(rows, answers, strict=True)]

    def _score(self, row: list[int], answer: list[int]) -> float:
        decode = self.lm.tokenizer.decode
        said = [decode(answer[:n], skip_special_tokens=True) for n in range(len(answer) + 1)]
        verdict = find_verdict(said[-1], self.role)
        if verdict is None:
            return float("nan")
        # The tokens before the one that the verdict starts in; a space between them is written with the verdict.
        before = max(n for n, text in enumerate(said) if len(text) <= verdict.start)
        lead = said[-1][len(said[before]) : verdict.start]
        tails = [self._ids(lead + word) for word in verdict.words]
        own = self._ids(lead + verdict.word)
        if own != answer[before : before + len(own)]:
            return float(verdict.words[verdict.word])
        known = tuple(row + answer[:before])
        logs = completion_logprobs(self.lm, [Encoded(known, tuple(tail), False) for tail in tails])
        chances = np.exp(logs - logs.max())
        return float(np.dot(chances, list(verdict.words.values())) / chances.sum())

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.lm.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _row(self, text: str) -> list[int]:
        """The tokens that the model is asked with; a text that is too long loses its end."""
        harmless = _disarmed(text, self.lm.tokenizer)
        row = self._ids(self._render(harmless))
        room = int(min(self.lm.tokenizer.model_max_length, self.lm.context)) - WORDS
        if len(row) > room:
            kept = self._ids(harmless)[: room - (len(row) - len(self._ids(harmless)))]
            row = self._ids(self._render(self.lm.tokenizer.decode(kept)))[:room]
        return row

    def _render(self, text: str) -> str:
        from jinja2 import TemplateError

        said = {"role": self.role, "content": text}
        turns = [said] if self.role == "user" else [{"role": "user", "content": REQUEST}, said]
        try:
            rendered: str = self.lm.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except (TemplateError, ValueError, TypeError) as error:
            raise ModelError(f"the chat template of the guard takes no {self.role}'s text: {error}") from error
        return rendered


def load_guard(path: str, role: Role) -> Guard:
    """Load a safety classifier that answers in words.

    Args:
        path: Hub id (with an optional `@revision`) or folder.
        role: who is taken to have said the texts.

    Raises:
        ModelError: it cannot be loaded, or has no chat template.
    """
    return Guard(load(Checkpoint(path), "chat"), role)


def _disarmed(text: str, tokenizer: Any) -> str:
    """The text without special tokens: what a text holds cannot end its turn or start another one."""
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    for token in sorted(special | set(tokenizer.all_special_tokens), key=lambda token: (-len(token), token)):
        text = text.replace(token, f"{token[0]} {token[1:]}") if len(token) > 1 else text
    return text
