"""`stage:FOLDER`: the reward model of a finished `reward` stage (Bradley-Terry; arXiv 2203.02155, equation 1).

An answer that the model ended is read with its end token, as in training; one that was cut is read at its last token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from preftrace import artifacts, models
from preftrace.errors import ArtifactError
from preftrace.models.prompts import Encoded
from preftrace.rewards import Answer, Reward
from preftrace.types import StageRecord


def build(argument: str, format: str) -> Reward:
    """The stage's model as a reward."""
    record = _record(argument)
    rm = models.load_reward(models.read_checkpoint(record.folder), format)
    most = record.config["stage"]["max_length"]

    def encode(answer: Answer) -> Encoded:
        return models.encode(rm.tokenizer, answer.prompt, answer.text, format, most, eos=answer.ended)

    def reward(answers: Sequence[Answer]) -> list[float]:
        values: list[float] = models.row_rewards(rm, [encode(answer) for answer in answers]).tolist()
        return values

    return reward


def digest(argument: str) -> str:
    """Of the stage's identity and content."""
    record = _record(argument)
    return artifacts.hash_json([record.identity, record.content])


def _record(folder: str) -> StageRecord:
    record = artifacts.read_record(Path(folder))
    if record is None or record.kind != "reward":
        raise ArtifactError(f"{folder} is not a finished reward stage. Train one, or name another reward.")
    return record
