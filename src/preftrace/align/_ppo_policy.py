"""PPO's policy and value on one backbone, and what a killed run goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from preftrace import artifacts, models
from preftrace.align import _saves, ppo
from preftrace.align._job import Job
from preftrace.models import adapters
from preftrace.models.prompts import Encoded

STATE, TENSORS = "state.json", "tensors.safetensors"


class Tokens(NamedTuple):
    """Of every answer token, `(n, T)`: log pi, value, entropy in nats; and where there is one."""

    logps: torch.Tensor
    values: torch.Tensor
    entropy: torch.Tensor
    mask: torch.Tensor


@dataclass
class State:
    """What a step changes besides the weights: enough to go on from, with the weights and the optimiser."""

    step: int = 0
    kl_coef: float = 0.0
    moments: tuple[float, float, float] = (0.0, 0.0, 0.0)
    curves: list[dict[str, float]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)


class Policy:
    """The model with its adapter, the value head, and their optimiser.

    Args:
        job: the training job.
        lm: the model that training starts from; it is changed.
    """

    def __init__(self, job: Job, lm: models.LanguageModel) -> None:
        assert isinstance(job.config, ppo.Config)
        self.config = job.config
        self.lm = replace(lm, model=adapters.attach(lm.model, job.adapter, job.seed).eval())
        width = self.lm.model.get_output_embeddings().in_features
        self.recomputed = models.checkpointed_layers(self.lm.model) if job.config.gradient_checkpointing else []
        self.head = torch.nn.Linear(width, 1, device=lm.device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        self.adapter = [parameter for parameter in self.lm.model.parameters() if parameter.requires_grad]
        groups = [
            {"params": self.adapter, "rate": job.config.rate(job.adapter), "weight_decay": job.config.weight_decay},
            {"params": [self.head.weight], "rate": job.config.value_learning_rate, "weight_decay": 0.0},
            {"params": [self.head.bias], "rate": 0.1 * job.config.value_learning_rate, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups)

    def tokens(self, rows: Sequence[Encoded], width: int, entropy: bool = False) -> Tokens:
        """One forward pass. Differentiable in log pi and the values; the entropy is 0 where it is not asked for."""
        found = models.answer_states(self.lm, rows)
        # Passes over the whole vocabulary are dear: none is made for nothing.
        hot = self.config.temperature != 1
        logps = (found.logits / self.config.temperature if hot else found.logits).log_softmax(-1)
        with torch.no_grad():
            spread = -(logps.exp() * logps).sum(-1) if entropy else torch.zeros_like(logps[:, 0])
        features = torch.nn.functional.layer_norm(found.hidden.float(), found.hidden.shape[-1:])
        features = features / features.shape[-1]
        lengths = [len(row.answer_ids) for row in rows]
        at = (found.row, torch.cat([torch.arange(n, device=found.row.device) for n in lengths]))
        empty = torch.zeros(len(rows), width, device=found.row.device)
        chosen = logps.gather(-1, found.tokens[:, None])[:, 0]
        values = self.head(features)[:, 0]
        mask = empty.bool().index_put(at, torch.ones_like(found.row, dtype=torch.bool))
        logp, value, spread = (empty.index_put(at, x.float()) for x in (chosen, values, spread))
        return Tokens(logp, value, spread, mask)

    def tensors(self) -> list[torch.Tensor]:
        """All that training changes."""
        return [*self.adapter, *self.head.parameters()]


def save(job: Job, policy: Policy, state: State) -> None:
    """Write a marked save of the state, the weights and the optimiser's moments."""
    folder = job.work / _saves.FOLDER / f"{_saves.PREFIX}{state.step}"
    moments = policy.optimizer.state
    tensors: dict[str, np.ndarray] = {}
    for i, tensor in enumerate(policy.tensors()):
        parts = {"value": tensor.detach(), **{k: moments[tensor][k] for k in ("step", "exp_avg", "exp_avg_sq")}}
        tensors |= {f"{i}.{name}": part.cpu().numpy() for name, part in parts.items()}
    artifacts.write_tensors(folder / TENSORS, tensors)
    values = {"step": state.step, "kl_coef": state.kl_coef, "moments": list(state.moments)}
    artifacts.write_json(folder / STATE, values | {"curves": state.curves, "answers": state.answers})
    _saves.mark(folder)


def resume(job: Job, policy: Policy) -> State:
    """The state of the last complete save, its tensors put in place; a fresh one where there is none."""
    save = _saves.latest(job.work / _saves.FOLDER)
    if save is None:
        return State(kl_coef=policy.config.kl_coef)
    values, tensors = artifacts.read_json(save / STATE), artifacts.read_tensors(save / TENSORS)
    for i, tensor in enumerate(policy.tensors()):
        parts = {k: torch.from_numpy(tensors[f"{i}.{k}"]) for k in ("step", "exp_avg", "exp_avg_sq")}
        policy.optimizer.state[tensor] = {k: p if k == "step" else p.to(tensor.device) for k, p in parts.items()}
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(tensors[f"{i}.value"]))
    curves = [{k: float("nan") if v is None else v for k, v in row.items()} for row in values["curves"]]
    return State(values["step"], values["kl_coef"], tuple(values["moments"]), curves, values["answers"])
