"""`hf:MODEL`, `hf:MODEL#LABEL` or `hf:MODEL#-LABEL`: a reward model or classifier of others, from the Hub or a folder.

MODEL is a folder or `owner/name[@revision]`: any transformers sequence classifier with safetensors weights.

- Without a label: a reward model, which has one output. The reward is that output, as it is, for the prompt and the
  answer together: as a conversation in the model's own chat template where it has one, else as readable text. What is
  too long for the model is cut from the left.
- With a label: a classifier, which judges the answer alone. The reward is the log-odds of the label; after `#-` their
  negative, for labels that name what is bad.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from preftrace import artifacts
from preftrace.errors import ConfigError, ModelError
from preftrace.rewards import Answer, Reward
from preftrace.types import readable


class Parts(NamedTuple):
    """What the argument says; `sign` is -1 where less of the label is better."""

    model: str
    label: str
    sign: int


def build(argument: str, format: str) -> Reward:
    """The model as a reward.

    Raises:
        ConfigError: the argument names no model, or no label after `#`.
        ModelError: the model cannot be loaded, has no such label, or has several and none is named.
    """
    from preftrace.models.classify import load_judge
    from preftrace.models.prompts import render_answered

    parts = _parts(argument)
    judge = load_judge(parts.model, parts.label)

    def outputs(answers: Sequence[Answer]) -> list[float]:
        if parts.label:
            return judge.log_odds([answer.text for answer in answers])
        if judge.tokenizer.chat_template:
            texts = [render_answered(answer.prompt, answer.text, judge.tokenizer) for answer in answers]
            return judge.log_odds(texts, keep="end", special=False)
        return judge.log_odds([f"{readable(answer.prompt)} {answer.text}" for answer in answers], keep="end")

    def reward(answers: Sequence[Answer]) -> list[float]:
        values = outputs(answers)
        lost = sum(not math.isfinite(value) for value in values)
        if lost:
            raise ModelError(f"'hf:{argument}' gave no finite number for {lost} of {len(values)} answers; use another")
        return [parts.sign * value for value in values]

    return reward


def digest(argument: str) -> str:
    """Of the model's files, or the Hub's commit, and the label."""
    from preftrace.models.checkpoints import fingerprint

    parts = _parts(argument)
    return artifacts.hash_json([fingerprint(parts.model), parts.label.casefold(), parts.sign])


def _parts(argument: str) -> Parts:
    model, mark, label = argument.partition("#")
    sign = -1 if label.startswith("-") else 1
    label = label.removeprefix("-").strip()
    if not model.strip() or (mark and not label):
        raise ConfigError([f"reward: 'hf:{argument}' is not hf:MODEL, hf:MODEL#LABEL or hf:MODEL#-LABEL"])
    return Parts(model.strip(), label, sign)
