"""`adapt`: the adapter that takes one whole checkpoint to another, as a finished stage.

The maths is in `models.difference`. Every matrix is kept as soon as it is factored, so that a killed run loses one. At
the end both models answer the same prompts, one after the other, and what the adapter does not reproduce is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preftrace import artifacts, models, progress
from preftrace.align._adapt_check import compare, encode_texts, warnings
from preftrace.align._adapt_job import AdaptConfig, Job, write_table
from preftrace.errors import ModelError
from preftrace.models.checkpoints import locate
from preftrace.types import Checkpoint, Pair, StageRecord

if TYPE_CHECKING:
    import numpy as np

    from preftrace.models.difference import Factors, Matrix, Plan

VERSION = 1
FACTORS = "_factors"
MATRIX = {
    **{"matrix": "string", "rows": "int64", "columns": "int64"},
    **dict.fromkeys(("norm", "base_norm", "energy", "left_out"), "float64"),
}
LOST = {"tensor": "string", "norm": "float64", "base_norm": "float64", "rows_added": "int64"}


def adapt(base: str, tuned: str, pairs: Sequence[Pair], out: Path, config: AdaptConfig | None = None) -> StageRecord:
    """Make the adapter from `base` to `tuned` in the folder `out`, or return it where it is there already.

    Args:
        base: a whole model: `starter`, a folder, a Hub id, or the folder of a stage that trained all weights.
        tuned: the same model after training, likewise.
        pairs: whose answers both are compared on.
        out: the stage's folder; `checkpoint.json` in it names the base with the adapter.
        config: settings.

    Raises:
        ModelError: a model cannot be found or read, the two do not fit together, or nothing linear differs.
        ConfigError: the targets fit no linear module.
        DataError: no pair is short enough to be compared.
    """
    config = config or AdaptConfig()
    start, end = _whole(base), _whole(tuned)
    inputs = {
        "base": models.fingerprint(start),
        "tuned": models.fingerprint(end),
        "pairs": artifacts.hash_json([pair.id for pair in pairs[: config.limit]]),
    }
    if inputs["base"] == inputs["tuned"]:
        raise ModelError(f"{base} and {tuned} are one and the same: there is nothing to adapt.")
    spec = artifacts.StageSpec("adapt", f"adapt/{out.name}", VERSION, config.identity(), inputs)

    def make(work: Path) -> Mapping[str, Any]:
        return _make(Job(start, end, pairs[: config.limit], config, work, out))

    record = artifacts.run_stage(out, spec, make)
    for warning in record.summary["warnings"]:
        progress.say(f"warning: {warning}")
    return record


def _whole(name: str) -> str:
    """A model without adapters by a name that goes on meaning the same: a full path, or a Hub id with its commit."""
    checkpoint = models.resolve_checkpoint(name)
    if checkpoint.adapters:
        raise ModelError(f"{name} is a model with an adapter already: `adapt` takes two whole models.")
    source, revision = locate(checkpoint.model)
    if checkpoint.model == "starter":
        return "starter"
    return source if revision is None else f"{source}@{revision}"


def _make(job: Job) -> dict[str, Any]:
    from preftrace.models import adapters, difference

    plan = difference.plan(job.base, job.tuned, job.config.adapter)
    texts = encode_texts(job, plan.positions)
    factors = _factor(job, plan)
    matrices = _matrix_table(plan.matrices, factors)
    if not any(row["norm"] for row in matrices):
        raise ModelError(f"no adapted matrix of '{job.tuned}' differs from '{job.base}': there is nothing to adapt.")
    lost = _lost(plan)
    tensors = {}
    for matrix in plan.matrices:
        for side in ("A", "B"):
            tensors[f"{matrix.key}.lora_{side}.weight"] = factors[matrix.name][side.lower()]
    adapters.write_adapter(job.work / "adapter", tensors, plan.settings)
    write_table(job.work / "matrices.parquet", MATRIX, matrices)
    write_table(job.work / "lost.parquet", LOST, lost)
    end = Checkpoint(job.base, (str((job.final / "adapter").resolve()),))
    models.write_checkpoint(job.work, end, job.final)
    check = compare(job, texts.rows)
    summary = {**_energy(matrices, lost), "check": check, "dtypes": difference.dtypes(plan)}
    return {**summary, "warnings": warnings(job, summary, lost, texts.same_tokens)}


def _factor(job: Job, plan: Plan) -> dict[str, dict[str, np.ndarray]]:
    """Every matrix's factors: `a`, `b`, and `stats` (norm, energy, left out, norm of base's weight)."""
    import torch

    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = {}
    with progress.bar("adapt", total=len(plan.matrices)) as advance:
        for matrix in plan.matrices:
            kept = job.work / FACTORS / f"{matrix.name}.safetensors"
            if not kept.is_file():
                artifacts.write_tensors(kept, _tensors(job, plan, matrix, place))
            found[matrix.name] = artifacts.read_tensors(kept)
            advance()
    return found


def _tensors(job: Job, plan: Plan, matrix: Matrix, device: Any) -> dict[str, np.ndarray]:
    import numpy as np

    from preftrace.models.difference import balanced_factors, difference

    delta, before = difference(plan, matrix.place, device)
    seed = None if job.config.svd == "exact" else job.config.seed
    factors: Factors = balanced_factors(delta.T if matrix.transposed else delta, job.config.rank, seed)
    stats = np.array([factors.norm, factors.energy, factors.left_out, before])
    a, b = (tensor.cpu().contiguous().numpy() for tensor in (factors.a, factors.b))
    return {"a": a, "b": b, "stats": stats}


def _matrix_table(matrices: Sequence[Matrix], factors: Mapping[str, Mapping[str, np.ndarray]]) -> list[dict[str, Any]]:
    rows = []
    for matrix in matrices:
        found = factors[matrix.name]
        norm, energy, left_out, before = (float(value) for value in found["stats"])
        size = {"rows": found["b"].shape[0], "columns": found["a"].shape[1]}
        rows.append(
            {"matrix": matrix.name, **size, "norm": norm, "base_norm": before, "energy": energy, "left_out": left_out}
        )
    return rows


def _lost(plan: Plan) -> list[dict[str, Any]]:
    """What differs and is in no adapter, largest first. Embeddings may differ in their number of rows."""
    import torch

    from preftrace.models.difference import difference

    rows = []
    for place in plan.rest:
        delta, before = difference(plan, place)
        shapes = plan.base.shapes[place.base], plan.tuned.shapes[place.tuned]
        norm = float(torch.linalg.vector_norm(delta, dtype=torch.float64))
        if norm > 0 or shapes[0] != shapes[1]:
            added = (shapes[1][0] - shapes[0][0]) if shapes[0] else 0
            rows.append({"tensor": place.name, "norm": norm, "base_norm": before, "rows_added": added})
    return sorted(rows, key=lambda row: (-row["norm"], row["tensor"]))


def _energy(matrices: list[dict[str, Any]], lost: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares of squared norms: what the adapter keeps of its own matrices, and what it keeps of the whole change."""
    changed = [row for row in matrices if row["norm"] > 0]
    kept = sum(row["energy"] * row["norm"] ** 2 for row in changed)
    own = sum(row["norm"] ** 2 for row in changed)
    whole = own + sum(row["norm"] ** 2 for row in lost)
    least = min(changed, key=lambda row: row["energy"])
    return {
        "matrices": len(matrices),
        "unchanged": len(matrices) - len(changed),
        "energy_kept": kept / own,
        "least_energy": {"matrix": least["matrix"], "energy": least["energy"]},
        "lost_tensors": len(lost),
        "kept_of_whole": kept / whole,
    }
