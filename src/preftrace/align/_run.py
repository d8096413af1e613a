"""A training stage: identity, resume and record around the training itself."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from preftrace import artifacts
from preftrace.align._config import PairConfig, StageConfig
from preftrace.align._job import Job
from preftrace.config import AdapterConfig
from preftrace.engines import Resources, engine_of
from preftrace.errors import ConfigError
from preftrace.registry import STAGES
from preftrace.types import Checkpoint, StageRecord


def run(
    kind: str,
    config: StageConfig,
    checkpoint: Checkpoint,
    pairs_folder: Path,
    adapter: AdapterConfig,
    out: Path,
    *,
    format: str,
    seed: int,
    inputs: Mapping[str, str],
    resources: Resources | None = None,
) -> StageRecord:
    """Train one stage into the folder `out`, or return it where it is there already.

    Args:
        kind: `sft`, `dpo`, or another file of this folder.
        config: its settings.
        checkpoint: where it starts. For DPO this is the reference policy too.
        pairs_folder: a finished pairs stage.
        adapter: LoRA's settings, or full fine-tuning.
        out: the stage's folder; `checkpoint.json` in it names the trained model.
        format: prompt format, `raw` or `chat`.
        seed: of the adapter's start and of the order of pairs.
        inputs: name -> content hash of what it is made from (the pairs, the checkpoint).
        resources: what may be used.

    Raises:
        ConfigError: a tracker of `report_to` is not installed, or checkpoints are to be kept of full fine-tuning, or
            more of them than there are steps.
        DataError: no pair can be used.
        UserError: the training diverged; the message says which setting to change.
    """
    _check_trackers(config.report_to)
    if isinstance(config, PairConfig) and (wrong := config.cannot_keep(adapter)):
        raise ConfigError([f"keep_checkpoints: {wrong}"], kind)
    stage = {**config.identity(), "learning_rate": config.rate(adapter)}
    settings = {"stage": stage, "adapter": adapter.identity(), "format": format, "seed": seed}
    spec = artifacts.StageSpec(
        kind, f"align/{out.name}", STAGES.load(kind).VERSION, settings, {**inputs, **config.digests()}
    )

    def make(work: Path) -> Mapping[str, Any]:
        job = Job(
            kind=kind,
            config=config,
            checkpoint=checkpoint,
            pairs=pairs_folder,
            adapter=adapter,
            work=work,
            final=out,
            format=format,
            seed=seed,
        )
        used = resources or Resources()
        return engine_of(used).run_group("preftrace.align._train:run", job.to_json(), used)

    return artifacts.run_stage(out, spec, make)


def _check_trackers(report_to: str | tuple[str, ...]) -> None:
    names = {report_to} if isinstance(report_to, str) else set(report_to)
    missing = sorted(name for name in names - {"none", "all"} if find_spec(name) is None)
    if missing:
        raise ConfigError([f"report_to: no package '{name}' here; install it, or use none" for name in missing])
