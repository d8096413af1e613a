"""PPO's loop: rollouts and updates. The algorithm is described in `ppo.py`, its mathematics in `_ppo_maths.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from preftrace import artifacts, models, progress, rewards
from preftrace.align import _ppo_maths as maths
from preftrace.align import _trackers, ppo
from preftrace.align._job import Job
from preftrace.align._ppo_policy import Policy, State, Tokens, resume, save
from preftrace.align._rl_run import Prompts, check_lora, draw, held_out, read_prompts, step_prompts, stop, write_answers
from preftrace.align._train import Fitted, Trained
from preftrace.models.prompts import Encoded
from preftrace.types import Sampling


class Rollout(NamedTuple):
    """Answers of one step and what their update needs; tensors are `(n, T)` but for `scores` `(n,)`."""

    rows: list[Encoded]
    answers: list[rewards.Answer]
    scores: torch.Tensor
    old: Tokens
    kl: torch.Tensor
    advantage: torch.Tensor
    returns: torch.Tensor


def train(job: Job, lm: models.LanguageModel) -> Trained:
    """The `train` of the ppo stage."""
    config = job.config
    assert isinstance(config, ppo.Config)
    check_lora(job)
    reward = rewards.build(config.reward, job.format)
    prompts = read_prompts(job, lm, "train", config.max_new_tokens)
    held = read_prompts(job, lm, "holdout", config.max_new_tokens)
    steps = max(1, round(config.epochs * len(prompts) / config.rollouts))
    policy = Policy(job, lm)
    state = resume(job, policy)
    bar = progress.bar(f"train {job.final.name}", total=steps, done=state.step)
    with _trackers.tracked(job, state.step) as log, bar as advance:
        for step in range(state.step, steps):
            _step(job, policy, state, step, steps, prompts, reward)
            log(state.curves[-1])
            if (step + 1) % config.save_steps == 0 and step + 1 < steps:
                save(job, policy, state)
            advance()
    _write(job, policy, state)
    cut = sum(row.truncated for _, row in prompts)
    counts = {"pairs_used": len(prompts), "pairs_unused": {}, "truncated": cut, "kl_coef": state.kl_coef}
    counts |= {"reward": rewards.portable(config.reward, job.final), "reward_scale": ppo.deviation(state.moments)}
    fitted = Fitted(policy.lm, pa.Table.from_pylist(state.curves), sum(t.numel() for t in policy.tensors()))
    return Trained(fitted, counts, held_out(job, policy.lm, held, _sampling(config), reward))


def _step(
    job: Job,
    policy: Policy,
    state: State,
    step: int,
    steps: int,
    prompts: Prompts,
    reward: rewards.Reward,
) -> None:
    config = policy.config
    drawn = [prompts[i] for i in step_prompts(job.seed, step, len(prompts), config.rollouts)]
    rows, answers = draw(policy.lm, drawn, _sampling(config), [job.seed, 2, step])
    rollout = _rollout(policy, state, rows, answers, reward)
    rate = ppo.rate(config, step, steps)
    for group in policy.optimizer.param_groups:
        group["lr"] = group["rate"] * rate
    logs = _update(policy, rollout, [job.seed, 3, step])
    lengths = rollout.old.mask.sum(1).float()
    logs |= {
        "reward": float(rollout.scores.mean()),
        "kl": float(rollout.kl.sum(1).mean()),
        "kl_coef": state.kl_coef,
        "entropy": float(maths.masked_mean(rollout.old.entropy, rollout.old.mask)),
        "explained_variance": maths.explained_variance(rollout.old.values, rollout.returns, rollout.old.mask),
        "answer_tokens": float(lengths.mean()),
        "ended": float(np.mean([answer.ended for answer in answers])),
        "learning_rate": config.rate(job.adapter) * rate,
    }
    if problem := ppo.fault(logs, config):
        raise stop(job, step + 1, problem)
    if config.kl_target is not None:
        state.kl_coef = maths.next_coefficient(state.kl_coef, logs["kl"], config.kl_target)
    state.step = step + 1
    state.curves.append({"step": step + 1, "epoch": (step + 1) * config.rollouts / len(prompts), **logs})
    for (pair, _), answer, score in zip(drawn[: config.log_answers], answers, rollout.scores.tolist(), strict=False):
        state.answers.append({"step": step + 1, "pair_id": pair.id, "answer": answer.text, "reward": score})


def _sampling(config: ppo.Config) -> Sampling:
    return Sampling(1, config.max_new_tokens, config.temperature)


def _rollout(
    policy: Policy, state: State, rows: list[Encoded], answers: list[rewards.Answer], reward: rewards.Reward
) -> Rollout:
    config, device = policy.config, policy.lm.device
    scores = torch.tensor(reward(answers), dtype=torch.float32, device=device)
    width = max(len(row.answer_ids) for row in rows)
    with torch.no_grad(), policy.lm.autocast():
        old = _batched(policy, rows, width, entropy=True)
        with policy.lm.model.disable_adapter():
            reference = _batched(policy, rows, width).logps
    kl = maths.kl_terms(old.logps, reference, config.kl_form) * old.mask
    deviation = 1.0
    if config.scale_reward:
        state.moments, deviation = ppo.running_deviation(state.moments, scores.double())
    held = (scores / deviation).clamp(-config.reward_clip, config.reward_clip)
    held = held - config.eos_penalty * torch.tensor([not a.ended for a in answers], device=device)
    shaped = maths.token_rewards(held, kl, state.kl_coef, old.mask)
    advantage, returns = maths.advantages(shaped, old.values, old.mask, config.gamma, config.lam)
    if config.whiten:
        advantage = maths.whiten(advantage, old.mask)
    return Rollout(rows, answers, scores, old, kl, advantage, returns)


def _batched(policy: Policy, rows: Sequence[Encoded], width: int, entropy: bool = False) -> Tokens:
    """Without gradients, in batches of like length."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].prompt_ids) - len(rows[i].answer_ids))
    size = policy.config.batch_size
    chosen = [[rows[i] for i in order[at : at + size]] for at in range(0, len(rows), size)]
    parts = [policy.tokens(part, width, entropy) for part in chosen]
    back = torch.tensor(np.argsort(order), device=policy.lm.device)
    return Tokens(*(torch.cat(tensors)[back] for tensors in zip(*parts, strict=True)))


def _update(policy: Policy, rollout: Rollout, seed: list[int]) -> dict[str, float]:
    """All passes over one step's answers; returns the means of what was seen, and the highest ratio."""
    config, seen = policy.config, []
    size = config.batch_size * config.gradient_accumulation
    generator = np.random.default_rng(seed)
    for _ in range(config.ppo_epochs):
        order = generator.permutation(len(rollout.rows))
        for at in range(0, len(order), size):
            with models.recomputing(policy.recomputed):
                seen.append(_minibatch(policy, rollout, order[at : at + size].tolist()))
    logs = {name: float(np.mean([one[name] for one in seen])) for name in seen[0]}
    return logs | {"ratio": max(one["ratio"] for one in seen)}


def _minibatch(policy: Policy, rollout: Rollout, chosen: list[int]) -> dict[str, float]:
    config, width = policy.config, rollout.old.mask.shape[1]
    total = rollout.old.mask[chosen].sum()
    logs = dict.fromkeys(("loss", "policy_loss", "value_loss", "ratio", "clip_fraction"), 0.0)
    chosen = sorted(chosen, key=lambda i: -len(rollout.rows[i].prompt_ids) - len(rollout.rows[i].answer_ids))
    for at in range(0, len(chosen), config.batch_size):
        part = chosen[at : at + config.batch_size]
        with torch.enable_grad(), policy.lm.autocast():
            now = policy.tokens([rollout.rows[i] for i in part], width)
        old, share = Tokens(*(tensor[part] for tensor in rollout.old)), rollout.old.mask[part].sum() / total
        surrogate = maths.policy_loss(now.logps, old.logps, rollout.advantage[part], now.mask, config.clip)
        value = maths.value_loss(now.values, old.values, rollout.returns[part], now.mask, config.value_clip)
        loss = (surrogate.loss + config.value_coef * value) * share
        loss.backward()  # type: ignore[no-untyped-call]
        found = (loss / share, surrogate.loss, value, surrogate.ratio, surrogate.clipped)
        for name, number in zip(list(logs), found, strict=True):
            logs[name] += float((number * share).detach())
    most = config.max_grad_norm or float("inf")
    logs["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(policy.tensors(), most))
    policy.optimizer.step()
    policy.optimizer.zero_grad()
    return logs


def _write(job: Job, policy: Policy, state: State) -> None:
    head = {name: value.detach().cpu().numpy() for name, value in policy.head.named_parameters()}
    artifacts.write_tensors(job.work / "value_head.safetensors", head)
    write_answers(job, state.answers)
