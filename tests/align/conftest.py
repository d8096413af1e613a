"""A pairs stage with a toy preference (the chosen answer says yes), and a stage runner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from preftrace import artifacts, progress
from preftrace.types import Pair, text_id


def toy_pair(index: int) -> Pair:
    chosen, rejected = "yes " * (1 + index % 3) + "sir", "no " * (1 + index % 4) + "way"
    prompt = f"Number {index}: may I?"
    return Pair(
        id=text_id(prompt, chosen, rejected), prompt=prompt, chosen=chosen, rejected=rejected, source="toy", row=index
    )


def write_pairs(folder: Path, train: Sequence[Pair], holdout: Sequence[Pair] = ()) -> Path:
    from preftrace.preferences import pairs_to_table

    split = pa.array(["train"] * len(train) + ["holdout"] * len(holdout), pa.string())
    artifacts.write_table(folder / "pairs.parquet", pairs_to_table([*train, *holdout]).append_column("split", split))
    return folder


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "quiet", True)


@pytest.fixture
def write() -> Callable[..., Path]:
    """`write(folder, train, holdout)` writes a pairs stage's table."""
    return write_pairs


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """11 pairs to train on, 3 held out."""
    return write_pairs(tmp_path / "pairs", [toy_pair(i) for i in range(11)], [toy_pair(i) for i in range(11, 14)])


@pytest.fixture
def stage(tmp_path: Path, tiny_folder: Path) -> Callable:
    """`stage(kind, pairs, name=..., start=..., adapter=..., seed=..., **settings)` trains and returns the record."""
    from preftrace import align
    from preftrace.config import AdapterConfig
    from preftrace.registry import STAGES
    from preftrace.types import Checkpoint

    def run(kind, pairs, *, name=None, start=None, method="lora", seed=0, **settings):
        config = STAGES.load(kind).Config(**{"batch_size": 4, "save_steps": 100, **settings})
        return align.run(
            kind,
            config,
            start or Checkpoint(str(tiny_folder)),
            pairs,
            AdapterConfig(method=method, r=4, alpha=8),
            tmp_path / "align" / (name or kind),
            format="raw",
            seed=seed,
            inputs={"pairs": "toy"},
        )

    return run
