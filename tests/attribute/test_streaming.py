"""The passes over gradients that are known beforehand: two with a pilot against three, kills, layers, directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from preftrace import artifacts
from preftrace.attribute import passes as workers
from preftrace.attribute import pilot, streaming
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.streaming import DIRECTIONS, Passes
from preftrace.engines import Resources
from preftrace.errors import ModelError

N, Q, PILOT = 600, 3, 100
SIZES = {"model.layers.0.q.lora_A.weight": 30, "model.layers.1.q.lora_A.weight": 50, "score.weight": 8}
BATCH, SHARD, DRAWN = 8, 100, 104


def gradients() -> dict[str, np.ndarray]:
    """Of pairs whose norms differ by orders of magnitude, as those of DPO do."""
    rng = np.random.default_rng(0)
    size = np.exp(rng.standard_normal((N, 1)))
    common = {name: rng.standard_normal(d) for name, d in SIZES.items()}
    return {
        name: (scale * size * (rng.standard_normal((N, d)) + common[name])).astype(np.float32)
        for scale, (name, d) in zip((1.0, 0.1, 5.0), SIZES.items(), strict=True)
    }


def vectors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.standard_normal((Q, d)).astype(np.float32) for name, d in SIZES.items()}


class Known:
    """Stands for `PairModel`: hands out known gradients, counts the pairs, and stops where it is told to."""

    rows: dict[str, np.ndarray]
    given = 0
    stop_at: int | None = None

    def __init__(self, **model):
        pass

    def gradients(self, start, stop, reference):
        for first in range(start, stop, BATCH):
            last = min(first + BATCH, stop)
            if Known.stop_at is not None and Known.given + last - first > Known.stop_at:
                raise KeyboardInterrupt
            Known.given += last - first
            batch = [*range(first - start, last - start)]
            yield batch, {name: torch.from_numpy(g[first:last].copy()) for name, g in Known.rows.items()}


@pytest.fixture(autouse=True)
def known(monkeypatch):
    Known.rows, Known.given, Known.stop_at = gradients(), 0, None
    monkeypatch.setattr(workers, "PairModel", Known)
    monkeypatch.setattr(streaming, "SHARDS", N // SHARD)


def score(folder, seed=0, **options):
    config = AttributeConfig(**{"cache_gb": 0, "pilot": PILOT, **options})
    return Passes({"loss": {"kind": "sft"}}, N, config, folder, "sft", Resources(), seed).score(vectors())


def everything(pairs, least, seed):
    return [{"index": i, "start": at, "stop": min(at + 50, pairs)} for i, at in enumerate(range(0, pairs, 50))]


@pytest.mark.parametrize("broken", [(), (3, 400)])
def test_a_pilot_of_all_pairs_gives_the_scores_of_three_passes(tmp_path, monkeypatch, broken):
    for pair in broken:
        Known.rows["score.weight"][pair, 2] = np.nan
    three = score(tmp_path / "three", pilot=None)
    monkeypatch.setattr(pilot, "draw", everything)
    two = score(tmp_path / "two")
    for method in ("identity", "datainf"):
        np.testing.assert_allclose(two.scores[method], three.scores[method], rtol=1e-6, atol=0)
        assert np.isnan(two.scores[method]).all(1).nonzero()[0].tolist() == list(broken)
    assert two.missing == three.missing == len(broken)
    assert two.damping["datainf"]["pilot_pairs"] == N - len(broken)
    assert two.damping["datainf"]["median"] == pytest.approx(three.damping["datainf"]["median"], rel=1e-12)


def test_pairs_without_a_finite_gradient_do_not_change_the_scale(tmp_path, monkeypatch):
    """Scores are of a mean over the finite pairs, wherever these are in the draw."""
    Known.rows["score.weight"][300:] = np.nan
    three = score(tmp_path / "three", pilot=None)
    monkeypatch.setattr(pilot, "draw", lambda *_: [{"index": 0, "start": 0, "stop": 300}])
    two = score(tmp_path / "two")
    np.testing.assert_allclose(two.scores["datainf"][:300], three.scores["datainf"][:300], rtol=1e-6)


def test_a_pilot_of_some_pairs_comes_close_and_says_how_close(tmp_path):
    three = score(tmp_path / "three", pilot=None)
    two = score(tmp_path / "two")
    for q in range(Q):
        assert spearmanr(two.scores["datainf"][:, q], three.scores["datainf"][:, q]).statistic > 0.999
    assert not np.array_equal(two.scores["datainf"], three.scores["datainf"])
    said = two.damping["datainf"]
    assert PILOT <= said["pilot_pairs"] < PILOT + 8
    assert said["exact_median"] == pytest.approx(three.damping["datainf"]["median"], rel=1e-12)
    norms = [(g.astype(float) ** 2).sum(1) for g in Known.rows.values()]
    relative = max(n.std() / n.mean() for n in norms) / np.sqrt(said["pilot_pairs"])
    assert 0 < said["largest_error"] < 4 * relative
    assert set(three.damping["datainf"]) == {"median", "blocks", "blocks_left_out"}


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({}, 2 + DRAWN / N),
        ({"pilot": None}, 3),
        ({"pilot": 300}, 3),
        ({"pilot": 299}, 2 + 300 / N),
        ({"cache_gb": 1}, 1),
        ({"methods": ("identity",)}, 1),
    ],
)
def test_how_often_every_gradient_is_computed(tmp_path, options, passes):
    score(tmp_path, **options)
    assert Known.given == round(passes * N)


def test_kept_gradients_give_the_scores_of_those_computed_again(tmp_path):
    """How much disk there is has no part in a stage's identity, and so none in its scores."""
    for options in ({}, {"pilot": None}):
        one, two = (score(tmp_path / f"{gb}{len(options)}", cache_gb=gb, **options) for gb in (0, 1))
        np.testing.assert_allclose(one.scores["datainf"], two.scores["datainf"], rtol=1e-10)
        assert one.damping["datainf"] == pytest.approx(two.damping["datainf"], rel=1e-10)


def test_the_draw_has_a_seed(tmp_path):
    lambdas = [score(tmp_path / str(i), seed).damping["datainf"]["median"] for i, seed in enumerate((0, 0, 1))]
    assert lambdas[0] == lambdas[1] != lambdas[2]


@pytest.mark.parametrize("stop_at", [40, DRAWN, 500, DRAWN + N, DRAWN + 2 * N - 1])
def test_a_kill_in_any_pass_goes_on_to_the_same_bytes(tmp_path, stop_at):
    whole = score(tmp_path / "whole")
    Known.given, Known.stop_at = 0, stop_at
    with pytest.raises(KeyboardInterrupt):
        score(tmp_path / "killed")
    Known.given, Known.stop_at = 0, None
    found = score(tmp_path / "killed")
    assert Known.given < DRAWN + 2 * N - stop_at + SHARD + BATCH, "finished shards were computed again"
    for method in ("identity", "datainf"):
        assert found.scores[method].tobytes() == whole.scores[method].tobytes()
        assert found.layers[method].tobytes() == whole.layers[method].tobytes()
    assert (tmp_path / "killed" / DIRECTIONS).read_bytes() == (tmp_path / "whole" / DIRECTIONS).read_bytes()


@pytest.mark.parametrize("options", [{}, {"pilot": None}])
def test_directions_give_the_scores_as_products_with_gradients(tmp_path, options):
    scores = score(tmp_path, **options).scores
    directions = artifacts.read_tensors(tmp_path / DIRECTIONS)
    assert len(directions) == 2 * len(SIZES)
    for method, wanted in scores.items():
        for name, d in SIZES.items():
            assert directions[f"{method}/{name}"].shape == (Q, d)
            assert directions[f"{method}/{name}"].dtype == np.float32
        found = -sum(g.astype(float) @ directions[f"{method}/{name}"].T for name, g in Known.rows.items())
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    np.testing.assert_array_equal(directions["identity/score.weight"], vectors()["score.weight"])


def test_layers_add_up_to_the_scores_and_are_those_of_their_blocks(tmp_path):
    found = score(tmp_path)
    assert found.layer_names == ["0", "1", "head"]
    directions = artifacts.read_tensors(tmp_path / DIRECTIONS)
    for method, parts in found.layers.items():
        assert parts.shape == (N, 3, Q) and parts.dtype == np.float32
        largest = np.abs(found.scores[method]).max()
        np.testing.assert_allclose(parts.sum(1), found.scores[method], rtol=1e-5, atol=1e-6 * largest)
        alone = -Known.rows["score.weight"] @ directions[f"{method}/score.weight"].T
        np.testing.assert_allclose(parts[:, 2], alone, rtol=1e-4, atol=1e-5 * np.abs(alone).max())


def test_a_pilot_without_a_finite_gradient_is_told(tmp_path):
    Known.rows["score.weight"][:] = np.inf
    with pytest.raises(ModelError, match="finite"):
        score(tmp_path)


def test_a_draw_holds_enough_pairs_from_all_over():
    for pairs, least in ((5000, 1024), (100_000, 1024), (30, 10), (9, 4)):
        drawn = pilot.draw(pairs, least, 0)
        held = [i for run in drawn for i in range(run["start"], run["stop"])]
        assert least <= len(held) == len(set(held)) and max(held) < pairs
        assert held == sorted(held) and [run["index"] for run in drawn] == [*range(len(drawn))]
    held = [run["start"] for run in pilot.draw(100_000, 1024, 0)]
    counts = np.histogram(held, bins=4, range=(0, 100_000))[0]
    assert (counts >= 2).all(), "runs of neighbours come from every quarter of the data"


def test_taking_drawn_rows_from_shards_is_indexing():
    norms = np.arange(40.0).reshape(20, 2)
    drawn = [{"start": 1, "stop": 4}, {"start": 5, "stop": 13}, {"start": 19, "stop": 20}]
    found = np.concatenate([*pilot.take(np.split(norms, [6, 7, 12]), drawn)])
    np.testing.assert_array_equal(found, norms[[1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 19]])
