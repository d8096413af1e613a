"""The influence stage: what it is made from. The work is in `compute.py`, imported only when it is to be done."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftrace import artifacts, models
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.layer_check import check_layers
from preftrace.attribute.trail import check_trail
from preftrace.engines import Resources
from preftrace.errors import ArtifactError, DataError
from preftrace.registry import BASELINES, METHODS
from preftrace.types import DECLARED, Checkpoint, StageRecord

VERSION = 4
LOSS_SETTINGS = {
    "sft": ("max_length",),
    "dpo": ("max_length", "beta"),
    "reward": ("max_length", "margin", "label_smoothing", "centring"),
}
"""Kind of a stage that trains on pairs -> its settings that the loss of a pair depends on."""


def run(
    stage: Path,
    pairs: Path,
    evaluations: Mapping[str, Path],
    out: Path,
    config: AttributeConfig | None = None,
    *,
    before: Mapping[str, Path] | None = None,
    precision: str = "auto",
    seed: int = 0,
    resources: Resources | None = None,
) -> StageRecord:
    """Score every pair that a stage trained on, for every vertical that was evaluated on that stage.

    Args:
        stage: folder of a finished `sft` or `dpo` stage trained with LoRA, or of what a user declares to be one, or of
            a `ppo` or `rloo` stage whose reward is a reward stage trained with LoRA: then the pairs and the parameters
            are the reward model's.
        pairs: folder of the pairs stage.
        evaluations: vertical -> folder of the evaluation of that stage's model.
        out: where `scores.parquet`, `layers.parquet` and `recovery.parquet` go.
        config: settings.
        before: vertical -> folder of the evaluation of the stage it started from, for `query: margin` and `paper`.
        precision: of the model's passes, as in `models.load`; gradients are accumulated in float32 at least.
        seed: of the draws of query items, and of the pairs that give lambda.
        resources: speed only.

    Raises:
        ArtifactError: a folder is not what it should be.
        ModelError: the stage has no plain LoRA adapter.
        DataError: no pair was trained on, or there is no evaluation.
        ConfigError: a method needs checkpoints of the training, and none were kept; or a pattern of `layers` names
            nothing that the stage's adapter is on.
    """
    record, config = _record(stage), config or AttributeConfig()
    source = _source(record)
    check_trail(config, source)
    check_layers(config, source)
    if not evaluations:
        raise DataError(f"no evaluation of {stage.name} was given: influence needs at least one vertical's query.")
    earlier = _earlier(stage.name, config, evaluations, before or {})
    job = Job(
        record=record,
        source=source,
        pairs=pairs,
        evaluations=dict(sorted(evaluations.items())),
        before=earlier,
        config=config,
        precision=precision,
        seed=seed,
        resources=resources or Resources(),
        store=config.store or out.with_name(f"{source.folder.name}.store"),
    )

    def make(work: Path) -> Mapping[str, Any]:
        from preftrace.attribute import compute

        return compute.make(job, work)

    return artifacts.run_stage(out, _spec(job), make)


@dataclass(frozen=True, slots=True)
class Job:
    """One influence stage: what it reads and how.

    Attributes:
        record: the trained stage.
        source: the stage whose pairs and parameters are looked at: itself, or the reward stage that it learned from.
        pairs: folder of the pairs stage.
        evaluations: vertical -> folder of its evaluation, sorted by name.
        before: the same of the stage it started from; empty where the query does not look back.
        config: settings.
        precision: of the model's passes.
        seed: of the draw of query items.
        resources: speed only.
        store: folder of the source's store, in that mode.
    """

    record: StageRecord
    source: StageRecord
    pairs: Path
    evaluations: Mapping[str, Path]
    before: Mapping[str, Path]
    config: AttributeConfig
    precision: str
    seed: int
    resources: Resources
    store: Path

    @property
    def checkpoint(self) -> Checkpoint:
        """The model whose parameters are looked at, its adapter on."""
        return models.read_checkpoint(self.source.folder)

    @property
    def format(self) -> str:
        """Prompt format of the training."""
        return str(self.source.config["format"])

    @property
    def loss(self) -> dict[str, Any]:
        """The pair loss that the source stage minimised."""
        stage, kind = self.source.config["stage"], _kind(self.source)
        return {"kind": kind, **{name: stage.get(name) for name in LOSS_SETTINGS[kind]}}

    @property
    def beta(self) -> float | None:
        """Beta of the policy's optimum pi ~ pi_ref exp(r / beta), in the reward model's own unit; None without one.

        It is the coefficient of the KL times what rewards were divided by. With no hold to the reference it is 1:
        scores then have no scale, and keep their order.
        """
        if self.source is self.record:
            return None
        summary = self.record.summary
        return float(summary["kl_coef"]) * float(summary["reward_scale"]) or 1.0

    @property
    def through(self) -> dict[str, Any] | None:
        """What the record says of the reward model that the pairs act through."""
        return None if self.beta is None else {"stage": self.source.folder.name, "beta": self.beta}

    @property
    def declared(self) -> Mapping[str, Any] | None:
        """What the record says where a user declared the loss and the pairs, and no training recorded them."""
        return self.source.summary["declared"] if self.source.kind == DECLARED else None


def _spec(job: Job) -> artifacts.StageSpec:
    """What the stage is made from."""
    record, source = job.record, job.source
    inputs = {"stage": artifacts.hash_json([record.identity, record.content]), "pairs": _record(job.pairs).content}
    if source is not record:
        inputs["reward"] = artifacts.hash_json([source.identity, source.content])
    inputs |= {f"evaluate/{name}": _record(folder).content for name, folder in job.evaluations.items()}
    inputs |= {f"before/{name}": _record(folder).content for name, folder in job.before.items()}
    settings = job.config.identity() | {"precision": job.precision, "seed": job.seed}
    settings["versions"] = {name: METHODS.load(name).VERSION for name in job.config.methods}
    settings["versions"] |= {name: BASELINES.load(name).VERSION for name in job.config.baselines}
    return artifacts.StageSpec("attribute", f"attribute/{record.folder.name}", VERSION, settings, inputs)


def _kind(record: StageRecord) -> str:
    """Kind of the stage's training: a key of `LOSS_SETTINGS` where its pairs have a loss."""
    return str(record.config["loss"]) if record.kind == DECLARED else record.kind


def _source(record: StageRecord) -> StageRecord:
    """The stage that trained on the pairs: the stage itself, or the reward stage whose reward it maximised."""
    if record.kind != "reward" and _kind(record) in LOSS_SETTINGS:
        return record
    spec = record.summary.get("reward")
    if spec is None:
        known = "influence is defined for sft, dpo, ppo and rloo stages"
        raise ArtifactError(f"{record.folder} is a '{record.kind}' stage; {known}.")
    name, _, place = str(spec).partition(":")
    if name != "stage":
        raise ArtifactError(
            f"{record.folder} was rewarded by '{spec}', not by a reward stage: it has no pairs to score."
        )
    source = _record(Path(os.path.normpath(record.folder / place)))
    if record.inputs["reward"] != f"stage:{artifacts.hash_json([source.identity, source.content])}":
        raise ArtifactError(f"{source.folder} is not the reward stage that {record.folder} was trained with.")
    return source


def _earlier(
    name: str, config: AttributeConfig, evaluations: Mapping[str, Path], before: Mapping[str, Path]
) -> dict[str, Path]:
    if not config.looks_back:
        return {}
    missing = sorted(set(evaluations) - set(before))
    if missing:
        raise DataError(f"query: {config.query} compares {name} with the stage before, whose {missing[0]} is missing.")
    return {vertical: before[vertical] for vertical in sorted(evaluations)}


def _record(folder: Path) -> StageRecord:
    record = artifacts.read_record(folder)
    if record is None:
        raise ArtifactError(f"{folder} is not a finished stage: it has no {artifacts.RECORD}. Run the study again.")
    return record
