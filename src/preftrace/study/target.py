"""Whose influence is validated: a finished run, one of its stages, and the influence of that stage's pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from preftrace import artifacts, models
from preftrace.errors import ArtifactError
from preftrace.study.config import BASE, StudyConfig, makes_policy
from preftrace.study.reading import read_study
from preftrace.study.results import Run
from preftrace.types import Checkpoint, StageRecord

if TYPE_CHECKING:
    from preftrace.attribute.fidelity_value import QueryValues


@dataclass(frozen=True, slots=True)
class Target:
    """Whose scores are held against training again.

    Attributes:
        run: the run folder.
        study: its study.
        stage: the stage that the influence is of.
        source: the stage that trained on the pairs: `stage` itself, or the reward stage that it learned from.
        influence: record of its influence.
    """

    run: Path
    study: StudyConfig
    stage: str
    source: str
    influence: StageRecord

    @property
    def verticals(self) -> list[str]:
        """Those that have scores to be validated."""
        return [
            name for name in self.influence.summary["verticals"] if self.influence.summary["queries"][name]["signal"]
        ]

    def record(self, name: str) -> StageRecord:
        """The finished step called `name`."""
        found = artifacts.read_record(self.run / name)
        if found is None:
            raise ArtifactError(f"{self.run} has no finished {name}; run the study again.")
        return found

    def evaluation(self, vertical: str, stage: str | None = None) -> Path:
        """Folder of a vertical's evaluation, of this stage or another."""
        return self.run / "evaluate" / (stage or self.stage) / vertical

    def start(self, name: str) -> Checkpoint:
        """The model that a stage was trained from."""
        before = self.study.stages[name].from_
        return Checkpoint(self.study.model) if before == BASE else models.read_checkpoint(self.run / "align" / before)

    def queries(self) -> QueryValues:
        """The queries that influence was computed for."""
        from preftrace.attribute.fidelity_value import QueryValues

        names = self.influence.summary["verticals"]
        looks_back = any(name.startswith("before/") for name in self.influence.inputs)
        earlier = self.study.stages[self.stage].from_
        return QueryValues(
            self.influence,
            self.study.format,
            self.study.model,
            {name: self.evaluation(name) for name in names},
            {name: self.evaluation(name, earlier) for name in names} if looks_back else {},
        )


def open_target(run: Path, stage: str, scores: Path | None = None) -> Target:
    """The stage of a run whose influence is to be validated.

    Args:
        run: a run folder.
        stage: a trained stage with influence.
        scores: folder of its influence; the run's own where None.

    Raises:
        ArtifactError: no run, no such stage, or no influence of it.
    """
    folder = Run(run).folder
    study = read_study(folder / "study.yaml")
    if stage not in study.stages:
        raise ArtifactError(f"{run} has no stage '{stage}'; known: {', '.join(study.stages)}.")
    if not makes_policy(study.kinds[stage]):
        users = [name for name, config in study.stages.items() if stage in config.needs()[1:]]
        other = f"validate {' or '.join(users)}, which learned from it" if users else "no stage learned from it"
        raise ArtifactError(f"'{stage}' is a reward model, which has no influence of its own: {other}.")
    place = scores or folder / "attribute" / stage
    influence = artifacts.read_record(place)
    if influence is None or influence.kind != "attribute":
        raise ArtifactError(f"{place} holds no influence of '{stage}'. Run `preftrace attribute {run} {stage}` first.")
    through = influence.summary["through"]
    return Target(folder, study, stage, through["stage"] if through else stage, influence)


def check(target: Target) -> None:
    """Whether the run is still what the influence was computed from, and the study what the stage was trained by.

    Raises:
        ArtifactError: something was changed in between.
    """
    names = {"stage": target.stage, "reward": target.source}
    for key, name in names.items():
        record = target.record(f"align/{name}")
        if key in target.influence.inputs and target.influence.inputs[key] != _digest(record):
            raise ArtifactError(f"{target.influence.folder} is of another training of '{name}'; compute it again.")
    for key, content in target.influence.inputs.items():
        part, _, vertical = key.partition("/")
        stages = {"evaluate": target.stage, "before": target.study.stages[target.stage].from_}
        if part in stages and target.record(f"evaluate/{stages[part]}/{vertical}").content != content:
            raise ArtifactError(f"{target.influence.folder} is of another evaluation of {vertical}; compute it again.")
    if target.record("pairs").content != target.influence.inputs["pairs"]:
        raise ArtifactError(f"{target.influence.folder} is of other pairs; compute it again.")
    source, study = target.record(f"align/{target.source}"), target.study
    config = study.stages[target.source]
    stage = {**config.identity(), "learning_rate": config.rate(study.adapter)}
    settings = {"stage": stage, "adapter": study.adapter.identity(), "format": study.format, "seed": study.seed}
    before = config.from_
    start = models.fingerprint(study.model) if before == BASE else _digest(target.record(f"align/{before}"))
    if artifacts.hash_json(settings) != artifacts.hash_json(source.config) or start != source.inputs["checkpoint"]:
        raise ArtifactError(f"{source.folder} was trained otherwise than {target.run}/study.yaml says; run it again.")


def _digest(record: StageRecord) -> str:
    return artifacts.hash_json([record.identity, record.content])
