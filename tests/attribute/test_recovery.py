"""Recovery of planted pairs and the numbers beside a score, worked by hand."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from preftrace.attribute.recovery import measure
from preftrace.attribute.scores import ranks, scores_table, z_scores


def pairs(kinds):
    ids = [f"p{i}" for i in range(len(kinds))]
    return ids, pa.table({"id": ids, "meta": [json.dumps({"planted": kind}) for kind in kinds]})


def test_auc_and_recall_by_hand():
    """Scores -3 (planted), -2 (clean), -1 (planted), 4 (clean).

    Of the 4 planted-clean comparisons the planted is the more harmful in 3: AUC 0.75. The first 2 hold 1 of 2 planted.
    """
    ids, table = pairs(["privacy", None, "privacy", None])
    scores = scores_table(ids, "dpo", ["privacy"], {"identity": np.array([[-3.0], [-2.0], [-1.0], [4.0]])})
    row = measure(scores, table).to_pylist()[0]
    assert (row["auc"], row["recall"], row["random_recall"]) == (0.75, 0.5, 0.5)
    assert (row["planted"], row["pairs"]) == (2, 4)


def test_planted_pairs_of_another_vertical_are_neither_found_nor_clean():
    ids, table = pairs(["privacy", "ethics", None, None])
    values = np.array([[-5.0], [-9.0], [0.0], [1.0]])
    found = measure(scores_table(ids, "dpo", ["privacy"], {"identity": values}), table).to_pylist()
    privacy = next(row for row in found if row["vertical"] == "privacy")
    assert (privacy["auc"], privacy["pairs"]) == (1.0, 3)


def test_nothing_planted_gives_no_row():
    ids, table = pairs([None, None])
    assert measure(scores_table(ids, "s", ["ethics"], {"identity": np.ones((2, 1))}), table).num_rows == 0


def test_a_vertical_without_scores_is_not_counted_as_found():
    ids, table = pairs(["ethics", None, None])
    scores = scores_table(ids, "s", ["ethics"], {"identity": np.full((3, 1), np.nan)})
    assert measure(scores, table).num_rows == 0


def test_a_pair_without_a_score_takes_no_part_and_hides_no_other():
    """One pair whose gradient overflowed: the other four are still told apart."""
    ids, table = pairs(["privacy", None, "privacy", None, None])
    values = np.array([[-3.0], [-2.0], [-1.0], [4.0], [np.nan]])
    row = measure(scores_table(ids, "dpo", ["privacy"], {"identity": values}), table).to_pylist()[0]
    assert (row["auc"], row["planted"], row["pairs"]) == (0.75, 2, 4)


def test_the_table_of_many_pairs_takes_little_memory():
    """By rows of Python objects it took 20 kB a pair, more than everything else together."""
    import tracemalloc

    n, verticals = 4000, [*"vwxyz"]
    ids = [f"{i:064d}" for i in range(n)]
    scores = {name: np.random.default_rng(0).standard_normal((n, 5)) for name in ("identity", "datainf", "length")}
    tracemalloc.start()
    table = measure(scores_table(ids, "dpo", verticals, scores), pairs([None] * n)[1])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert table.num_rows == 0 and peak < 1000 * n


def test_rank_z_and_effect_of_removal():
    """Scores 4, 1, 1: ranks 1, 2, 3; mean 2, sd sqrt(3): z = 2 / sqrt 3, -1 / sqrt 3 twice; effect -score / 3."""
    score = np.array([4.0, 1.0, 1.0])
    assert ranks(score).tolist() == [1, 2, 3]
    np.testing.assert_allclose(z_scores(score), np.array([2, -1, -1]) / np.sqrt(3))
    table = scores_table(["a", "b", "c"], "dpo", ["ethics"], {"identity": score[:, None]}).to_pandas()
    np.testing.assert_allclose(table.effect_of_removal, -score / 3)


def test_missing_scores_stay_missing():
    table = scores_table(["a", "b"], "dpo", ["ethics"], {"identity": np.full((2, 1), np.nan)}).to_pylist()
    assert all(row["rank"] is None and np.isnan(row["score"]) and np.isnan(row["z"]) for row in table)


@pytest.mark.parametrize("score", [np.ones(5), np.array([2.0])])
def test_z_is_missing_where_all_scores_are_alike(score):
    assert np.isnan(z_scores(score)).all()
