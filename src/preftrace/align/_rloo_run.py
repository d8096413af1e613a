"""TRL's RLOOTrainer on our prompts, rewards and saves. Imported by training code only; `rloo.py` says what it does."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from trl import RLOOConfig, RLOOTrainer

from preftrace import artifacts, models, progress, rewards
from preftrace.align import _rl_run, _saves, rloo
from preftrace.align._job import Job
from preftrace.align._rl_run import Prompts
from preftrace.align._train import Fitted, Trained
from preftrace.align._trainers import Marked, arguments, one_device, tracker_folder
from preftrace.errors import ConfigError, UserError
from preftrace.models import adapters
from preftrace.types import Sampling

ANSWERS = "answers.json"
LOGGED = {
    "loss": "loss",
    "reward": "score",
    "entropy": "entropy",
    "clip_fraction": "clip_ratio/region_mean",
    "ratio": "ratio",
    "answer_tokens": "completions/mean_length",
    "ended": "ended",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
}
"""Our name of a measure, as in the curves of PPO: the trainer's name of it."""


class SeededRLOOTrainer(Marked, RLOOTrainer):  # type: ignore[misc]
    """TRL's RLOOTrainer on rows whose `prompt` is the number of one of our prompts.

    Args:
        job: the training job.
        lm: the model; what TRL is given of it is in `kwargs`.
        prompts: the prompts.
        look: is called with the numbers of each step.
        kept: answers to be kept, in which the reward puts more; they are part of every save.
        kwargs: TRL's own.
    """

    def __init__(
        self,
        job: Job,
        lm: models.LanguageModel,
        prompts: Prompts,
        look: Callable[[dict[str, float]], None],
        kept: list[dict[str, Any]],
        **kwargs: Any,
    ) -> None:
        self._job, self._lm, self._prompts, self._look, self._kept = job, lm, prompts, look, kept
        self._ratios: list[float] = []
        super().__init__(processing_class=lm.tokenizer, **kwargs)
        self._drop_printer()

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Our tokens. TRL would tokenise a text with the special tokens that a rendered one has already."""
        return [list(self._prompts[int(number)][1].prompt_ids) for number in prompts], None, {}

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """TRL draws and shuffles a step's answers in here, from the global generator: it is seeded for the step."""
        with _seeded([self._job.seed, 2, self.state.global_step], self._lm.device):
            return super()._prepare_inputs(generation_batch)

    def _generate_single_turn(self, *args: Any) -> list[list[int]]:
        with self._lm.autocast():
            completions: list[list[int]] = super()._generate_single_turn(*args)
        return completions

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """With positions counted from a row's first token: TRL counts its padding, generation does not."""
        takes = inspect.signature(type(self._lm.model).forward).parameters

        def placed(**inputs: Any) -> Any:
            places = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
            return model(**inputs, **({"position_ids": places} if "position_ids" in takes else {}))

        found = super()._get_per_token_logps_and_entropies(placed, *args, **kwargs)
        self._logps = found[0].detach()
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        gap = (self._logps * inputs["completion_mask"]).sum(1) - inputs["old_logps"]
        self._ratios.append(float(gap.exp().mean()))
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step, with the highest mean ratio of its passes."""
        if "loss" in logs:
            logs["ratio"] = float(np.max(self._ratios))
            self._ratios.clear()
        super().log(logs, start_time)

    def _add_to(self, save: Path) -> None:
        artifacts.write_json(save / ANSWERS, self._kept)


def train(job: Job, lm: models.LanguageModel) -> Trained:
    """The `train` of the rloo stage."""
    config = job.config
    assert isinstance(config, rloo.Config)
    _rl_run.check_lora(job)
    reward = rewards.build(config.reward, job.format)
    prompts = _rl_run.read_prompts(job, lm, "train", config.max_new_tokens)
    held = _rl_run.read_prompts(job, lm, "holdout", config.max_new_tokens)
    # A model's own settings of generation, such as a repetition penalty, would change what is drawn.
    ends = {"eos_token_id": models.end_ids(lm), "bos_token_id": lm.tokenizer.bos_token_id, "pad_token_id": lm.pad_id}
    lm.model.generation_config = type(lm.model.generation_config)(**ends)
    fitted, kept = _fit(job, lm, prompts, reward)
    _rl_run.write_answers(job, kept)
    cut = sum(row.truncated for _, row in prompts)
    counts = {"pairs_used": len(prompts), "pairs_unused": {}, "truncated": cut, "kl_coef": config.beta}
    counts |= {"reward": rewards.portable(config.reward, job.final), "reward_scale": 1.0}
    how = Sampling(1, config.max_new_tokens, config.temperature)
    return Trained(fitted, counts, _rl_run.held_out(job, fitted.lm, held, how, reward))


def _fit(
    job: Job, lm: models.LanguageModel, prompts: Prompts, reward: rewards.Reward
) -> tuple[Fitted, list[dict[str, Any]]]:
    """Train with TRL, going on from a killed run's last complete save; also the answers that are kept."""
    config = job.config
    assert isinstance(config, rloo.Config)
    steps = max(1, round(config.epochs * len(prompts) / config.rollouts))
    order = [i for step in range(steps) for i in _rl_run.step_prompts(job.seed, step, len(prompts), config.rollouts)]
    resume = _saves.latest(job.work / _saves.FOLDER)
    done = _saves.step(resume) // config.updates() if resume else 0
    kept: list[dict[str, Any]] = artifacts.read_json(resume / ANSWERS) if resume else []
    lm.model.requires_grad_(True)  # merging left it off; LoRA turns it off again for all but the adapter
    with (
        warnings.catch_warnings(action="ignore", category=FutureWarning),
        tracker_folder(job),
        progress.bar(f"train {job.final.name}", total=steps, done=done) as advance,
    ):

        def look(logs: dict[str, float]) -> None:
            row = _row(logs)
            if problem := rloo.fault(row, config):
                raise _rl_run.stop(job, trainer.state.global_step // config.updates(), problem)
            advance()

        shared = {
            "model": lm.model,
            "reward_funcs": _judge(job, lm, prompts, reward, kept),
            "args": one_device(RLOOConfig(**_settings(job, lm, steps))),
            "train_dataset": Dataset.from_dict({"prompt": [str(i) for i in order]}),
            "peft_config": adapters.lora_config(job.adapter),
        }
        try:
            trainer = SeededRLOOTrainer(job, lm, prompts, look, kept, **shared)
        except ValueError as error:
            if "lm_head" not in str(error):
                raise
            raise ConfigError(["adapter.targets: rloo cannot train the output head; leave it out"], job.kind) from error
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    logs = [log for log in trainer.state.log_history if "loss" in log]
    share = config.rollouts / len(prompts)
    rows = [{"step": at, "epoch": at * share, **_row(log)} for at, log in enumerate(logs, 1)]
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    return Fitted(replace(lm, model=trainer.model.eval()), pa.Table.from_pylist(rows), trainable), kept


def _settings(job: Job, lm: models.LanguageModel, steps: int) -> dict[str, Any]:
    """Of TRL, said outright. A generation with its updates is one step of ours: logs and saves fall on its end."""
    config = job.config
    assert isinstance(config, rloo.Config)
    updates = config.updates()
    same = {k: v for k, v in arguments(job, lm).items() if k not in ("max_length", "num_train_epochs")}
    return {
        **same,
        "max_steps": steps * updates,
        "logging_steps": updates,
        "save_steps": config.save_steps * updates,
        "shuffle_dataset": False,  # the rows are in order
        "generation_batch_size": config.rollouts * config.num_generations,
        "num_generations": config.num_generations,
        "num_iterations": config.num_iterations,
        "max_completion_length": config.max_new_tokens,
        "temperature": config.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": None,
        "repetition_penalty": 1.0,
        "use_vllm": False,
        "use_transformers_continuous_batching": False,
        "beta": config.beta or np.finfo(float).tiny,  # at 0, TRL would not measure the KL
        "epsilon": config.clip,
        "epsilon_high": config.clip,
        "normalize_advantages": config.normalise_advantages,
        "reward_clip_range": None,
        "mask_truncated_completions": False,
        "router_aux_loss_coef": 0.0,
        "disable_dropout": True,
        "sync_ref_model": False,
        "log_completions": False,
    }


def _judge(
    job: Job, lm: models.LanguageModel, known: Prompts, reward: rewards.Reward, kept: list[dict[str, Any]]
) -> Callable[..., list[float]]:
    """The reward as TRL calls it: from tokens, so that it sees which answers the model ended."""
    config = job.config
    assert isinstance(config, rloo.Config)

    def judged(
        *,
        prompts: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        trainer_state: Any,
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        pairs = [known[int(number)][0] for number in prompts]
        answers = [_rl_run.answer_of(lm, pair.prompt, ids) for pair, ids in zip(pairs, completion_ids, strict=True)]
        scores = reward(answers)
        step = trainer_state.global_step // config.updates() + 1
        if len(scores) != len(answers):
            raise UserError(f"{job.final.name}: the reward gave {len(scores)} numbers for {len(answers)} answers")
        if not np.isfinite(scores).all():
            raise _rl_run.stop(job, step, f"its reward is {np.sum(scores)}; look at the reward")
        ended = np.array([answer.ended for answer in answers])
        log_metric("ended", float(ended.mean()))
        log_metric("score", float(np.mean(scores)))
        for pair, answer, score in zip(pairs[: config.log_answers], answers, scores, strict=False):
            kept.append({"step": step, "pair_id": pair.id, "answer": answer.text, "reward": score})
        held: list[float] = (np.array(scores) - config.eos_penalty * ~ended).tolist()
        return held

    return judged


def _row(logs: dict[str, float]) -> dict[str, float]:
    """A step's numbers under our names; TRL's KL is one of tokens, ours the sum of an answer's, in nats."""
    row = {name: float(logs[theirs]) for name, theirs in LOGGED.items()}
    return row | {"kl": float(logs["kl"]) * row["answer_tokens"]}


@contextlib.contextmanager
def _seeded(seed: Sequence[int], device: torch.device) -> Iterator[None]:
    """The global generators start from `seed` inside, and are as before after it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.default_rng(seed).integers(2**62)))
        yield
