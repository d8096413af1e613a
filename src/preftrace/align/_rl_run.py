"""What PPO and RLOO do alike: their prompts, their answers, and the reward on held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from preftrace import artifacts, models, progress, rewards
from preftrace.align._job import Job
from preftrace.align._rl import RLConfig
from preftrace.errors import ConfigError, DataError, UserError
from preftrace.models.prompts import Encoded
from preftrace.types import Pair, Prompt, Sampling

Prompts = Sequence[tuple[Pair, Encoded]]
"""The first pair with each prompt, and the prompt's tokens."""


def check_lora(job: Job) -> None:
    """Refuse full fine-tuning.

    Raises:
        ConfigError: `adapter.method` is full.
    """
    if job.adapter.method != "lora":
        words = f"adapter.method: {job.kind} needs lora: its reference is the model with the adapter off"
        raise ConfigError([words], job.kind)


def read_prompts(job: Job, lm: models.LanguageModel, split: Literal["train", "holdout"], answer: int) -> Prompts:
    """The distinct prompts of a split, cut from the left so that an answer of `answer` tokens fits behind them.

    Raises:
        ConfigError: no token of a prompt would be left.
        DataError: there is no prompt to train on.
    """
    from preftrace.preferences.stage import load_pairs

    room = job.config.max_length - answer
    if room < 1:
        raise ConfigError(["max_length: must be above max_new_tokens"], job.kind)
    found: dict[str, tuple[Pair, Encoded]] = {}
    for pair in load_pairs(job.pairs, split):
        text = models.render(pair.prompt, lm.tokenizer, job.format)
        ids = lm.tokenizer(text, add_special_tokens=job.format == "raw")["input_ids"]
        found.setdefault(text, (pair, Encoded(tuple(ids[-room:]), (), len(ids) > room)))
    if split == "train" and not found:
        raise DataError(f"{job.kind}: there is no prompt in {job.pairs}.")
    return list(found.values())


def step_prompts(seed: int, step: int, count: int, rollouts: int) -> list[int]:
    """The prompts of a step: each pass over them is a permutation of its own."""
    at = range(step * rollouts, (step + 1) * rollouts)
    orders = {p: np.random.default_rng([seed, 1, p]).permutation(count) for p in {i // count for i in at}}
    return [int(orders[i // count][i % count]) for i in at]


def answer_of(lm: models.LanguageModel, prompt: Prompt, ids: Sequence[int]) -> rewards.Answer:
    """An answer's tokens, its end token included where it has one, as rewards get it."""
    ended = ids[-1] in models.end_ids(lm)
    text = lm.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True).strip()
    return rewards.Answer(prompt, text, ended)


def draw(
    lm: models.LanguageModel, drawn: Prompts, how: Sampling, seed: Sequence[int]
) -> tuple[list[Encoded], list[rewards.Answer]]:
    """One answer to each prompt."""
    seeds = [[int(s)] for s in np.random.default_rng(seed).integers(2**62, size=len(drawn))]
    found = models.sample_ids(lm, [row.prompt_ids for _, row in drawn], how, seeds)
    rows = [row._replace(answer_ids=tuple(ids)) for (_, row), (ids,) in zip(drawn, found, strict=True)]
    return rows, [answer_of(lm, pair.prompt, ids) for (pair, _), (ids,) in zip(drawn, found, strict=True)]


def stop(job: Job, step: int, problem: str) -> UserError:
    """The error of a step that has gone wrong."""
    return UserError(f"{job.final.name}: at step {step} {problem}. Its last good save is kept in {job.work}.")


def write_answers(job: Job, answers: Sequence[Mapping[str, Any]]) -> None:
    """Write `answers.parquet`."""
    kinds = {"step": pa.int64(), "pair_id": pa.string(), "answer": pa.string(), "reward": pa.float64()}
    artifacts.write_table(job.work / "answers.parquet", pa.Table.from_pylist(answers, schema=pa.schema(kinds)))


def held_out(
    job: Job, lm: models.LanguageModel, held: Prompts, how: Sampling, reward: rewards.Reward
) -> dict[str, Any]:
    """Mean reward of answers to held-out prompts before and after, and the paired difference of prompts (Student's t).

    The answers to a prompt are drawn with the same seeds on both sides.
    """
    from scipy import stats

    if not held:
        return {"n": 0}
    with lm.model.disable_adapter():
        before = _mean_rewards(job, lm, held, how, reward, "before")
    after = _mean_rewards(job, lm, held, how, reward, "after")
    n, gaps = len(held), after - before
    mean = float(gaps.mean())
    half = float(stats.t.ppf(0.975, n - 1) * stats.sem(gaps)) if n > 1 else float("nan")
    found: dict[str, Any] = {"n": n, "answers": _config(job).holdout_answers}
    found |= {"reward_before": float(before.mean()), "reward": float(after.mean()), "reward_change": mean}
    return found | {"reward_change_interval": [mean - half, mean + half] if n > 1 else None}


def _mean_rewards(
    job: Job, lm: models.LanguageModel, held: Prompts, how: Sampling, reward: rewards.Reward, when: str
) -> np.ndarray:
    """`(n,)` mean reward of a prompt's answers."""
    config = _config(job)
    repeated = [prompt for prompt in held for _ in range(config.holdout_answers)]
    starts = range(0, len(repeated), config.rollouts)
    found: list[float] = []
    with progress.bar(f"held-out prompts {when} {job.final.name}", total=len(starts)) as advance:
        for start in starts:
            found += reward(draw(lm, repeated[start : start + config.rollouts], how, [job.seed, 4, start])[1])
            advance()
    means: np.ndarray = np.reshape(found, (len(held), -1)).mean(1)
    return means


def _config(job: Job) -> RLConfig:
    assert isinstance(job.config, RLConfig)
    return job.config
