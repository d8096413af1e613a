"""One training job: everything a training process needs to know, as JSON there and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftrace.align._config import StageConfig
from preftrace.config import AdapterConfig
from preftrace.registry import STAGES
from preftrace.types import Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to train, on what, and where to.

    Attributes:
        kind: name of the stage's file.
        config: the stage's settings.
        checkpoint: where training starts; all its adapters are merged first.
        pairs: folder of the pairs stage.
        adapter: what is trained.
        work: folder that is written (holds a killed run's working files).
        final: where that folder will lie when the stage is complete.
        format: prompt format.
        seed: of the adapter's start and of the order of pairs.
    """

    kind: str
    config: StageConfig
    checkpoint: Checkpoint
    pairs: Path
    adapter: AdapterConfig
    work: Path
    final: Path
    format: str
    seed: int

    def ending(self, adapter: Path) -> Checkpoint:
        """The model that this one starts from, with an adapter at its end."""
        return Checkpoint(self.checkpoint.model, (*self.checkpoint.adapters, str(adapter.resolve())))

    def to_json(self) -> dict[str, Any]:
        """JSON values from which `from_json` makes the same job."""
        return {
            "kind": self.kind,
            "config": self.config.model_dump(mode="json"),
            "checkpoint": {"model": self.checkpoint.model, "adapters": list(self.checkpoint.adapters)},
            "pairs": str(self.pairs),
            "adapter": self.adapter.model_dump(mode="json"),
            "work": str(self.work),
            "final": str(self.final),
            "format": self.format,
            "seed": self.seed,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Job:
        """Inverse of `to_json`."""
        start = values["checkpoint"]
        return Job(
            kind=values["kind"],
            config=STAGES.load(values["kind"]).Config.model_validate(values["config"]),
            checkpoint=Checkpoint(start["model"], tuple(start["adapters"])),
            pairs=Path(values["pairs"]),
            adapter=AdapterConfig.model_validate(values["adapter"]),
            work=Path(values["work"]),
            final=Path(values["final"]),
            format=values["format"],
            seed=values["seed"],
        )
