"""The first stage of every study: read the pairs, leave some out, hold some out, and write down which and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from preftrace import artifacts
from preftrace.errors import ArtifactError
from preftrace.preferences.config import PreferencesConfig
from preftrace.preferences.planting import FLIP, plant
from preftrace.preferences.reading import open_material, pairs_from
from preftrace.preferences.splitting import flag_counts, keep, reasons
from preftrace.preferences.tables import pairs_to_table, table_to_pairs
from preftrace.types import Pair, StageRecord

VERSION = 1
PAIRS = "pairs.parquet"
DROPPED = "dropped.parquet"


def prepare(config: PreferencesConfig, seed: int, out: Path) -> StageRecord:
    """Make the stage `pairs` at `out`, unless it is there with the same settings and the same data.

    The data is hashed each time and parsed only when the stage has to be made. Without a holdout and
    without planted pairs the seed has no effect and is not part of the identity.

    Raises:
        DataError: the data cannot be read, or no pair is left to train on.
        ArtifactError: `out` cannot be written or holds something else.
    """
    material = open_material(config)
    settings = {"preferences": config.identity(), "seed": seed if config.holdout or config.plant else None}
    spec = artifacts.StageSpec("pairs", "pairs", VERSION, settings, {"source": material.digest})

    def make(work: Path) -> Mapping[str, Any]:
        import pyarrow as pa

        pairs = pairs_from(material, config)
        kept = keep(pairs, config, seed)
        kept = kept._replace(train=plant(kept.train, config.plant, seed))
        used = [(pair, "train") for pair in kept.train] + [(pair, "holdout") for pair in kept.holdout]
        used.sort(key=lambda entry: entry[0].row)
        table = pairs_to_table([pair for pair, _ in used])
        artifacts.write_table(work / PAIRS, table.append_column("split", pa.array([s for _, s in used], pa.string())))
        left = pairs_to_table([pair for pair, _ in kept.dropped])
        why = pa.array([dropped.reason for dropped in kept.dropped], pa.string())
        artifacts.write_table(work / DROPPED, left.append_column("reason", why))
        return {
            "read": len(pairs),
            "kept": len(used),
            "train": len(kept.train),
            "holdout": len(kept.holdout),
            **({"planted": sum(pair.meta.get("planted") == FLIP for pair in kept.train)} if config.plant else {}),
            "flags": flag_counts(pairs),
            "dropped": reasons(kept),
        }

    return artifacts.run_stage(out, spec, make)


def load_pairs(folder: Path, split: Literal["train", "holdout"] | None = None) -> list[Pair]:
    """The pairs of a finished stage in the order in which they were read, all or those of one split.

    Raises:
        ArtifactError: `folder` is not such a stage.
    """
    path = folder / PAIRS
    if not path.is_file():
        raise ArtifactError(f"{folder} holds no {PAIRS}. Name the folder of a finished pairs stage.")
    table = artifacts.read_table(path)
    if split is not None:
        import pyarrow.compute as pc

        table = table.filter(pc.equal(table["split"], split))
    return table_to_pairs(table)
