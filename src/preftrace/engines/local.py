"""The engine of this machine: work runs in this process, or in `workers` spawned ones. Never imports Ray."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from preftrace import progress
from preftrace.engines import _base as base
from preftrace.engines._base import Resources, Shard


def run_group(function: str, config: Mapping[str, Any], resources: Resources | None = None) -> dict[str, Any]:
    """Call the importable `function` with `config` in this process; see `Engine.run_group`."""
    result: dict[str, Any] = base.resolve(function)(config)
    return result


def map_shards(
    worker: str,
    init: Mapping[str, Any],
    shards: Sequence[Shard],
    out: Path,
    resources: Resources | None = None,
    label: str = "shards",
) -> list[Path]:
    """Compute every shard that is not finished yet; see `Engine.map_shards`."""
    hashes = [base.shard_hash(worker, init, shard) for shard in shards]
    todo = [i for i, digest in enumerate(hashes) if not base.is_done(out, i, digest)]
    workers = min((resources or Resources()).workers, max(len(todo), 1))
    with progress.bar(label, total=len(shards), done=len(shards) - len(todo)) as advance:
        if workers <= 1:
            instance = base.resolve(worker)(**init) if todo else None
            for i in todo:
                assert instance is not None
                base.write_shard(out, i, hashes[i], instance.run(shards[i]))
                advance()
        else:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, context, _start, (worker, dict(init))) as pool:
                jobs = [pool.submit(_compute, i, dict(shards[i]), str(out), hashes[i]) for i in todo]
                for job in as_completed(jobs):
                    job.result()
                    advance()
    return [base.shard_folder(out, i) for i in range(len(shards))]


_instance: Any = None


def _start(worker: str, init: dict[str, Any]) -> None:
    global _instance
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _instance = base.resolve(worker)(**init)


def _end_with(parent: int) -> None:
    """A killed run cannot tell its workers: they see that they have another parent and go too."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _compute(index: int, shard: dict[str, Any], out: str, digest: str) -> None:
    base.write_shard(Path(out), index, digest, _instance.run(shard))
