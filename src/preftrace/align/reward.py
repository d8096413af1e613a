"""Reward model of pairwise preferences (Bradley-Terry), through TRL's RewardTrainer.

Loss of one pair, with D = r(chosen) - r(rejected) - margin:
(1 - e) softplus(-D) + e softplus(D) + c (r(chosen) + r(rejected))^2

The first term is Ouyang et al. (2022, arXiv 2203.02155), equation 1; the margin is Touvron et al.'s (2023, arXiv
2307.09288), equation 2; e is the share of labels that are taken to be wrong; c keeps rewards around 0 (Eisenstein et
al. 2023, arXiv 2312.09244). r is read at the answer's end token, in training and wherever the model is used.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from preftrace.align._config import PairConfig
from preftrace.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from preftrace import models
    from preftrace.align._job import Job
    from preftrace.align._rows import Row
    from preftrace.align._train import Trained

VERSION = 2
LOSS = "mean over pairs of softplus(-(r(chosen) - r(rejected) - margin)), smoothed and centred where asked"
POLICY = False


class Config(PairConfig):
    """Settings of a reward model."""

    RATES: ClassVar[dict[str, float]] = {"lora": 5e-4, "full": 2e-5}

    from_: str = Field("sft", alias="from", description="the stage whose model this one starts from; base: none")
    margin: str | None = Field(
        None, description="key of a pair's meta that says by how much chosen is better; unset: 0 for every pair"
    )
    centring: float = Field(0.0, ge=0, description="weight of the squared sum of both rewards, which keeps them near 0")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="share of the pairs whose label is taken to be wrong")


def train(job: Job, lm: models.LanguageModel) -> Trained:
    """Train on all usable pairs; see `preftrace.align`. Writes `holdout.parquet`, a row for each held-out pair."""
    import numpy as np

    from preftrace import models
    from preftrace.align import _fits, _rows, _train

    assert isinstance(job.config, Config)
    rows = _rows.prepare(job, lm)
    margins = _margins(job, rows.train, job.config.margin)
    rm = models.to_reward_model(lm, job.seed)
    fitted = _fits.fit_reward(job, rm, rows.train, margins)
    measures: dict[str, Any] = {}
    if rows.holdout:
        assert isinstance(fitted.lm, models.RewardModel)
        both = models.row_rewards(fitted.lm, [side for row in rows.holdout for side in (row.chosen, row.rejected)])
        measures = _held_out(job, rows.holdout, np.reshape(both, (-1, 2)))
    return _train.Trained(fitted, rows.counts(), rows.held_out(**measures))


def _margins(job: Job, rows: list[Row], key: str | None) -> np.ndarray:
    import numpy as np

    from preftrace.preferences.stage import load_pairs

    if key is None:
        return np.zeros(len(rows))
    found = {pair.id: pair.meta.get(key) for pair in load_pairs(job.pairs, "train")}
    values = [found[row.pair_id] for row in rows]
    for row, value in zip(rows, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"{job.kind}: pair {row.pair_id} has no number under '{key}' in its meta, but {value!r}.")
    return np.array(values, dtype=float)


def _held_out(job: Job, rows: list[Row], rewards: np.ndarray) -> dict[str, Any]:
    """Accuracy and margin with 95% intervals (Wilson's, Student's t), and the mean log loss; rewards are `(n, 2)`."""
    import numpy as np
    import pyarrow as pa
    from scipy import stats

    from preftrace import artifacts

    columns = {
        "pair_id": [row.pair_id for row in rows],
        "chosen_reward": rewards[:, 0],
        "rejected_reward": rewards[:, 1],
    }
    artifacts.write_table(job.work / "holdout.parquet", pa.table(columns))
    n, gaps = len(rows), rewards[:, 0] - rewards[:, 1]
    right = int((gaps > 0).sum())
    share = stats.binomtest(right, n).proportion_ci(method="wilson")
    half = float(stats.t.ppf(0.975, n - 1) * stats.sem(gaps)) if n > 1 else math.nan
    mean = float(gaps.mean())
    return {
        "loss": float(np.logaddexp(0, -gaps).mean()),
        "reward_accuracy": right / n,
        "reward_accuracy_interval": [float(share.low), float(share.high)],
        "reward_margin": mean,
        "reward_margin_interval": [mean - half, mean + half] if n > 1 else None,
    }
