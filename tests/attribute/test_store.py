"""The store: its scores against the streaming passes, what it refuses, and what a kill leaves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from preftrace import artifacts
from preftrace.attribute import store_build
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.influence import run as attribute_stage
from preftrace.attribute.store import Store
from preftrace.engines._base import Resources
from preftrace.errors import ArtifactError

METHODS = ("identity", "datainf")
VERTICALS = ("ethics", "stereotypes", "truthfulness")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """12 pairs in three parts."""
    monkeypatch.setattr(store_build, "SHARD", 5)


@pytest.fixture
def scored(tiny_run, tmp_path):
    def run(stage="dpo", name="out", resources=None, **settings):
        config = AttributeConfig(**{"methods": METHODS, "baselines": (), "query_items": 4, **settings})
        evaluations = {v: tiny_run.folder / "evaluate" / stage / v for v in VERTICALS}
        out, pairs = tmp_path / name / stage, tiny_run.folder / "pairs"
        record = attribute_stage(
            tiny_run.folder / "align" / stage, pairs, evaluations, out, config, resources=resources
        )
        return record, artifacts.read_table(record.folder / "scores.parquet").to_pandas()

    return run


def arrays(frame, method):
    return frame[frame.method == method].pivot(index="pair_id", columns="vertical", values="score").to_numpy()


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_whole_gradients_give_the_scores_of_the_streaming_passes(scored, stage):
    """To 5e-5 of the largest score: float32 on both sides, whose batches differ, and so their rounding.

    How much they do depends on the processor's kernels: from 3e-8 (AVX512) to 2.6e-6 (AVX2) was seen.
    """
    _, streamed = scored(stage)
    record, stored = scored(stage, "stored", mode="store", projection=0, store_dtype="float32")
    for method in METHODS:
        a, b = arrays(streamed, method), arrays(stored, method)
        assert np.nanmax(np.abs(a - b)) <= 5e-5 * np.nanmax(np.abs(a))
    assert record.summary["lambda"]["datainf"]["blocks"] == 28


def test_every_method_of_the_store_has_scores_layers_and_directions(scored):
    record, frame = scored(mode="store", methods=("identity", "datainf", "exact", "ekfac"), projection=4)
    for method in ("identity", "datainf", "exact", "ekfac"):
        assert np.isfinite(arrays(frame, method)).all()
    layers = artifacts.read_table(record.folder / "layers.parquet").to_pandas()
    sums = layers.groupby(["pair_id", "vertical", "method"]).contribution.sum()
    wanted = frame.set_index(["pair_id", "vertical", "method"]).score.loc[sums.index]
    np.testing.assert_allclose(sums, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max())


def test_fewer_bytes_keep_the_order(scored):
    """Against unprojected float32 rows: bf16 and int8 of whole gradients hardly move a score."""
    _, wanted = scored(mode="store", projection=0, store_dtype="float32")
    for kind, least in (("bf16", 0.999), ("int8", 0.99)):
        _, found = scored(name=kind, mode="store", projection=0, store_dtype=kind)
        for a, b in zip(arrays(wanted, "identity").T, arrays(found, "identity").T, strict=True):
            assert spearmanr(a, b)[0] >= least


def test_norms_are_those_of_the_whole_gradients_whatever_is_kept(scored, tmp_path):
    scored(name="a", mode="store", projection=0, store_dtype="float32")
    scored(name="b", mode="store", projection=2, store_dtype="int8")
    stores = [Store(artifacts.read_record(tmp_path / n / "dpo.store")) for n in "ab"]
    np.testing.assert_array_equal(stores[0].norm2, stores[1].norm2)
    name = next(iter(stores[0].shapes))
    np.testing.assert_allclose((stores[0].rows(name) ** 2).sum(1), stores[0].norm2[:, 0], rtol=1e-5)


def test_factors_are_the_moments_of_the_tokens_that_have_a_gradient(scored, tmp_path):
    """With one side of a matrix's gradient known by heart: sum over tokens of left right^T is what the rows sum to."""
    scored(mode="store", projection=0, store_dtype="float32")
    store = Store(artifacts.read_record(tmp_path / "out" / "dpo.store"))
    for name in store.shapes:
        left, right = store.factors(name)
        rows = store.rows(name).reshape(-1, *store.shapes[name])
        assert np.linalg.eigvalsh(left).min() >= -1e-4 * np.trace(left)
        # Cauchy-Schwarz over tokens: |u^T G v|^2 <= (u^T L u)(v^T R v) for the sum G of all pairs' gradients.
        u, v = np.ones(left.shape[0]), np.ones(right.shape[0])
        assert (u @ rows.sum(0) @ v) ** 2 <= (u @ left @ u) * (v @ right @ v) * (1 + 1e-4)


def test_a_second_query_loads_no_model(scored, monkeypatch):
    scored(mode="store")
    monkeypatch.setattr(store_build, "PairModel", None)
    _, frame = scored(mode="store", damping=0.5)
    assert np.isfinite(arrays(frame, "datainf")).all()


def test_a_named_store_of_something_else_is_refused_and_named(scored, tmp_path):
    place = tmp_path / "kept"
    scored(mode="store", store=place)
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    scored(name="again", mode="store", store=place, methods=("identity",))  # the same pairs and model: used
    with pytest.raises(ArtifactError, match=r"projection \(16 there, 4 asked for\)"):
        scored(name="other", mode="store", store=place, projection=4)
    with pytest.raises(ArtifactError, match=r"loss.kind \(dpo there, sft asked for\).*the model"):
        scored("sft", name="third", mode="store", store=place)
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before


def test_a_store_that_was_cut_short_is_told(scored, tmp_path):
    """As by a copy over a full disk: the record and every name are there, a part's end is not."""
    scored(mode="store")
    rows = tmp_path / "out" / "dpo.store" / "part-00001" / "rows.safetensors"
    rows.write_bytes(rows.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"part-00001.rows.safetensors cannot be read .* delete .*dpo.store"):
        scored(mode="store", damping=0.5)


def test_its_own_store_is_made_anew_where_the_settings_changed(scored, tmp_path):
    scored(mode="store", projection=4)
    record, _ = scored(mode="store", projection=8)
    assert artifacts.read_record(tmp_path / "out" / "dpo.store").config["projection"] == 8 and record


def test_a_killed_build_goes_on_and_leaves_the_same_bytes(scored, tmp_path, monkeypatch):
    scored(name="whole", mode="store")
    run, calls = store_build.StoreWorker.run, []

    def dies(self, shard):
        calls.append(shard["start"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(self, shard)

    monkeypatch.setattr(store_build.StoreWorker, "run", dies)
    with pytest.raises(KeyboardInterrupt):
        scored(name="torn", mode="store")
    scored(name="torn", mode="store")
    assert calls == [0, 5, 5, 10]
    for path in (tmp_path / "whole").rglob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "torn" / path.relative_to(tmp_path / "whole")).read_bytes()
    scores = [(tmp_path / n / "dpo" / "scores.parquet").read_bytes() for n in ("whole", "torn")]
    assert scores[0] == scores[1]


def test_two_workers_write_the_store_of_one(scored, tmp_path):
    scored(name="one", mode="store")
    scored(name="two", mode="store", resources=Resources(workers=2))
    for path in (tmp_path / "one").rglob("part-*/*.safetensors"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_streaming_with_a_method_of_the_store_is_the_users_error():
    with pytest.raises(ValueError, match="set mode: store"):
        AttributeConfig(methods=("exact",))
