"""Run one vertical on one checkpoint: items -> shards -> responses and log-likelihoods -> judged rows -> a record.

Shards are fixed batches of items of like length, made before any work starts, so that neither the number of workers nor
a kill changes what is computed together. They hold what the model said and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from preftrace import artifacts
from preftrace.artifacts import StageSpec
from preftrace.engines import Resources, engine_of
from preftrace.engines._base import Shard
from preftrace.errors import ConfigError
from preftrace.evaluate import backend as backends
from preftrace.evaluate import rows, scoring, sources
from preftrace.evaluate.backend import BackendConfig, Identity, Target
from preftrace.evaluate.base import ScoredConfig, Vertical, VerticalConfig, load
from preftrace.evaluate.scoring import Scorer
from preftrace.evaluate.selection import Items
from preftrace.types import Checkpoint, Item, Sampling, StageRecord, prompt_to_json

VERSION = 2
WORKER = "preftrace.evaluate.worker:Worker"
SHARDS = "_shards"
SCORES = "_scores"


def run(
    checkpoint: Checkpoint,
    vertical: str,
    config: VerticalConfig,
    out: Path,
    *,
    format: str = "raw",
    seed: int = 0,
    precision: str = "auto",
    backend: BackendConfig | None = None,
    resources: Resources | None = None,
    model_hash: str | None = None,
) -> StageRecord:
    """Evaluate a checkpoint on a vertical; nothing is computed if `out` holds the same evaluation already.

    Args:
        checkpoint: what is evaluated.
        vertical: name of the vertical.
        config: its settings.
        out: the evaluation's folder, `<run>/evaluate/<stage>/<vertical>`.
        format: prompt format, `raw` or `chat`.
        seed: of the item subset, of the draws and of the intervals.
        precision: of the model's passes, as in `models.load`.
        backend: what runs the model; this process where None.
        resources: what may be used.
        model_hash: content hash of the checkpoint, where the caller has it.

    Returns:
        The record: trust, the vertical's own metrics with 95% intervals, outcomes and what was counted.

    Raises:
        ConfigError: unknown vertical or scorer, or a backend that cannot run the checkpoint.
        DataError: items that cannot be read.
        ModelError: a model that cannot be loaded.
    """
    module = load(vertical)
    items = module.items(config, seed)
    scorer = scoring.build(config.scorer) if isinstance(config, ScoredConfig) else None
    backend = backend or backends.configure()
    _check_scripts(vertical, config.sampling, backend)
    identity = backends.load(backend.name).identify(backend, checkpoint, out.parent.name, format, model_hash)
    target = Target(
        checkpoint, out.parent.name, vertical, format, precision, identity.model, identity.said, opening(items)
    )
    inputs = {"model": identity.model, "items": _items_hash(items)}
    inputs |= {} if scorer is None else {"scorer": scorer.revision}
    if not backends.load(backend.name).LOCAL and model_hash is not None:
        # What is served cannot be looked into: at least a stage that was trained again is asked again.
        inputs["checkpoint"] = model_hash
    settings = {"vertical": vertical, "vertical_version": module.VERSION, "format": format, "seed": seed}
    settings |= {"precision": precision, "options": config.identity()} | _told(backend, identity)
    spec = StageSpec("evaluate", f"evaluate/{out.parent.name}/{out.name}", VERSION, settings, inputs)

    def make(work: Path) -> dict[str, Any]:
        if scorer is not None:
            scoring.ready(scorer)
        folders = _compute(backend, target, config.sampling, items, spec, work, resources or Resources())
        return finish(module, rows.gather(items, folders), scorer, seed, work) | _counted(items, config)

    return artifacts.run_stage(out, spec, make)


def _check_scripts(vertical: str, sampling: Sampling | None, backend: BackendConfig) -> None:
    if sampling is not None and sampling.as_scripts and backend.name != backends.DEFAULT:
        raise ConfigError(
            [f"{vertical}: protocol paper draws as its scripts do, which needs backend {backends.DEFAULT}"]
        )


def _told(backend: BackendConfig, identity: Identity) -> dict[str, Any]:
    """What the record says of a backend other than the usual one as it first was."""
    version = backends.load(backend.name).VERSION
    if (backend.name, version) == (backends.DEFAULT, 1):
        return {}
    return {"backend": {**backend.identity(), **identity.said, "version": version}}


def _counted(items: Sequence[Item], config: VerticalConfig) -> dict[str, Any]:
    """Items, those there were to take them from, what was left out as the same again, and the files they are from."""
    counted: dict[str, Any] = {"items": len(items), "available": len(items), "duplicates": 0}
    if isinstance(items, Items):
        counted |= {"available": items.available, "duplicates": items.duplicates}
    return counted | ({"sources": sources.pinned(config)} if config.files else {})


def shards(items: Sequence[Item], batch_size: int, samples: int, seed: int) -> list[Shard]:
    """Batches of items of like length, shortest first; a function of the items and these settings alone."""
    length = {item.id: _length(item) for item in items}
    order = sorted(items, key=lambda item: (length[item.id], item.id))
    described = [
        {
            "id": item.id,
            "prompt": prompt_to_json(item.prompt),
            "options": [option.text for option in item.options],
            "seeds": [sample_seed(seed, item.id, number) for number in range(samples)],
        }
        for item in order
    ]
    return [{"items": described[i : i + batch_size]} for i in range(0, len(described), batch_size)]


def opening(items: Sequence[Item]) -> tuple[str, ...]:
    """The first and the last, in order of text, of the prompts with options: all others start as both do."""
    prompts = {prompt_to_json(item.prompt) for item in items if item.options}
    return (min(prompts), max(prompts)) if len(prompts) > 1 else ()


def longest(items: Sequence[Item]) -> str:
    """The prompt with the most characters."""
    return max((prompt_to_json(item.prompt) for item in items), key=len)


def sample_seed(seed: int, item_id: str, sample: int) -> int:
    """Seed of one draw, in [0, 2^63): the same for every checkpoint, so that stages share their random numbers."""
    digest = hashlib.sha256(f"{seed}\x1f{item_id}\x1f{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _length(item: Item) -> int:
    longest = max((len(option.text) for option in item.options), default=0)
    return len(prompt_to_json(item.prompt)) + longest


def _items_hash(items: Sequence[Item]) -> str:
    return artifacts.hash_json(
        [
            [i.id, i.cluster, prompt_to_json(i.prompt), [asdict(o) for o in i.options], i.target]
            + ([i.crossed, i.unit] if i.crossed or i.unit else [])
            for i in items
        ]
    )


def _compute(
    backend: BackendConfig,
    target: Target,
    sampling: Sampling | None,
    items: Sequence[Item],
    spec: StageSpec,
    work: Path,
    resources: Resources,
) -> list[Path]:
    if sampling is not None:
        target = replace(target, longest=longest(items), max_new_tokens=sampling.max_new_tokens)
    init = {
        "backend": backend.identity(),
        "target": asdict(target),
        "sampling": asdict(sampling) if sampling else None,
        "speed": {name: getattr(backend, name) for name in sorted(backend.SPEED)},
    }
    samples = sampling.samples if sampling else 0
    batches = shards(items, spec.config["options"]["batch_size"], samples, spec.config["seed"])
    label = spec.name.removeprefix("evaluate/")
    return engine_of(resources).map_shards(WORKER, init, batches, work / SHARDS, resources, f"evaluate {label}")


def finish(
    module: Vertical,
    said: Sequence[rows.Answered],
    scorer: Scorer | None,
    seed: int,
    work: Path,
    known: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Score and judge what was said, write the tables into `work`, and sum them up.

    Args:
        module: the vertical.
        said: every item with its responses.
        scorer: what scores them.
        seed: of the intervals.
        work: folder of the tables; scores are kept in it as they come.
        known: scores of texts that are there already.
    """
    judged = rows.judge(module, said, scorer, work / SCORES, known)
    artifacts.write_table(work / "items.parquet", rows.items_table(module, judged))
    artifacts.write_table(work / "generations.parquet", rows.generations_table(judged))
    artifacts.write_table(work / "options.parquet", rows.options_table(judged))
    named = scoring.described(scorer, work / SCORES) if scorer else None
    return rows.summary(module, judged, seed) | {"scorer": named}
