"""The influence stage: what it is made from. The work is in `compute.py`, imported only when it is to be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftrace import artifacts, models
from preftrace.attribute.config import AttributeConfig
from preftrace.engines import Resources
from preftrace.errors import ArtifactError, DataError
from preftrace.registry import METHODS
from preftrace.types import Checkpoint, StageRecord

VERSION = 1


def run(
    stage: Path,
    pairs: Path,
    evaluations: Mapping[str, Path],
    out: Path,
    config: AttributeConfig | None = None,
    *,
    precision: str = "auto",
    seed: int = 0,
    resources: Resources | None = None,
) -> StageRecord:
    """Score every pair that a stage trained on, for every vertical that was evaluated on that stage.

    Args:
        stage: folder of a finished `sft` or `dpo` stage trained with LoRA.
        pairs: folder of the pairs stage.
        evaluations: vertical -> folder of the evaluation of that stage's model.
        out: where `scores.parquet` and `recovery.parquet` go.
        config: settings.
        precision: of the model's passes, as in `models.load`; gradients are accumulated in float32 at least.
        seed: of the draw of query items.
        resources: speed only.

    Raises:
        ArtifactError: a folder is not what it should be.
        ModelError: the stage has no plain LoRA adapter.
        DataError: no pair was trained on, or there is no evaluation.
    """
    record = _record(stage)
    if record.kind not in ("sft", "dpo"):
        raise ArtifactError(f"{stage} is a '{record.kind}' stage; influence is defined for sft and dpo stages.")
    if not evaluations:
        raise DataError(f"no evaluation of {stage.name} was given: influence needs at least one vertical's query.")
    job = Job(
        record=record,
        pairs=pairs,
        evaluations=dict(sorted(evaluations.items())),
        config=config or AttributeConfig(),
        precision=precision,
        seed=seed,
        resources=resources or Resources(),
    )
    inputs = {"stage": artifacts.hash_json([record.identity, record.content]), "pairs": _record(pairs).content}
    inputs |= {f"evaluate/{name}": _record(folder).content for name, folder in job.evaluations.items()}
    settings = job.config.identity() | {"precision": precision, "seed": seed}
    settings["versions"] = {name: METHODS.load(name).VERSION for name in job.config.methods}
    spec = artifacts.StageSpec("attribute", f"attribute/{stage.name}", VERSION, settings, inputs)

    def make(work: Path) -> Mapping[str, Any]:
        from preftrace.attribute import compute

        return compute.make(job, work)

    return artifacts.run_stage(out, spec, make)


@dataclass(frozen=True, slots=True)
class Job:
    """One influence stage: what it reads and how.

    Attributes:
        record: the trained stage.
        pairs: folder of the pairs stage.
        evaluations: vertical -> folder of its evaluation, sorted by name.
        config: settings.
        precision: of the model's passes.
        seed: of the draw of query items.
        resources: speed only.
    """

    record: StageRecord
    pairs: Path
    evaluations: Mapping[str, Path]
    config: AttributeConfig
    precision: str
    seed: int
    resources: Resources

    @property
    def checkpoint(self) -> Checkpoint:
        """The trained model, its adapter on."""
        return models.read_checkpoint(self.record.folder)

    @property
    def format(self) -> str:
        """Prompt format of the training."""
        return str(self.record.config["format"])

    @property
    def loss(self) -> dict[str, Any]:
        """The pair loss that the stage minimised."""
        stage = self.record.config["stage"]
        return {"kind": self.record.kind, "max_length": stage["max_length"], "beta": stage.get("beta")}


def _record(folder: Path) -> StageRecord:
    record = artifacts.read_record(folder)
    if record is None:
        raise ArtifactError(f"{folder} is not a finished stage: it has no {artifacts.RECORD}. Run the study again.")
    return record
