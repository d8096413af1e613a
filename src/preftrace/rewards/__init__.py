"""Rewards: what PPO and RLOO maximise. A number for each answer, higher is better.

A setting such as `hf:owner/name` or `python:rules.py:brevity` names the file of this folder before the colon; what
follows goes to that file. Each file defines

    build(argument, format) -> Reward    loads what it needs
    digest(argument) -> str              content hash of what computes the reward: part of a stage's identity
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from preftrace.errors import ConfigError
from preftrace.registry import REWARDS
from preftrace.types import Prompt


class Answer(NamedTuple):
    """An answer to a prompt.

    Attributes:
        prompt: a text or a conversation.
        text: the answer, without its end token.
        ended: whether it was ended by the end token, rather than cut.
    """

    prompt: Prompt
    text: str
    ended: bool


class Reward(Protocol):
    """Scores answers."""

    def __call__(self, answers: Sequence[Answer]) -> list[float]:
        """One real number for each answer."""
        ...


def split(spec: str) -> tuple[str, str]:
    """Name of the reward's file, and what that file is told.

    Raises:
        ConfigError: there is no such reward.
    """
    name, _, argument = spec.partition(":")
    if name not in REWARDS.names() or not argument:
        known = ", ".join(f"{known}:..." for known in REWARDS.names())
        raise ConfigError([f"reward: '{spec}' is neither a reward stage of this study nor one of: {known}"])
    return name, argument


def build(spec: str, format: str) -> Reward:
    """The reward that a setting names."""
    name, argument = split(spec)
    reward: Reward = REWARDS.load(name).build(argument, format)
    return reward


def portable(spec: str, folder: Path) -> str:
    """A reward as the record of the stage in `folder` names it: a reward stage by its place beside that stage."""
    name, argument = split(spec)
    return f"{name}:{os.path.relpath(argument, folder)}" if name == "stage" else spec


def digest(spec: str) -> str:
    """Content hash of what computes it."""
    name, argument = split(spec)
    return f"{name}:{REWARDS.load(name).digest(argument)}"
