"""Layers: names, patterns, parts of scores as a table."""

from __future__ import annotations

import numpy as np
import pytest

from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.layers import by_layer, layer_names, layer_of, layers_table, select, shares
from preftrace.errors import ConfigError

NAMES = [f"model.layers.{i}.{kind}" for i in range(12) for kind in ("self_attn.q_proj", "mlp.up_proj")] + ["score"]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.12.self_attn.q_proj.lora_A.weight", "12"),
        ("transformer.h.12.attn.c_attn.lora_B.weight", "12"),
        ("transformer.blocks.3.ffn.up_proj", "3"),
        ("gpt_neox.layers.0.attention.dense", "0"),
        ("model.layers.4.mlp.experts.7.w1.lora_A.weight", "4"),
        ("model.layers.4", "4"),
        ("score.weight", "head"),
        ("score", "head"),
        ("lm_head.lora_A.weight", "other"),
        ("model.layers2.proj", "other"),
    ],
)
def test_a_name_says_its_layer(name, layer):
    assert layer_of(name) == layer


def test_layers_come_in_order_of_their_numbers():
    assert layer_names(["lm_head", "score.weight", "h.10.x", "h.9.x", "h.9.y"]) == ["9", "10", "head", "other"]


@pytest.mark.parametrize(
    ("patterns", "layers"),
    [
        (("7",), {"7"}),
        (("4-6",), {"4", "5", "6"}),
        (("-2:",), {"10", "11"}),
        (("-99:",), {str(i) for i in range(12)}),
        (("10-99",), {"10", "11"}),
        (("head",), {"head"}),
        (("1", "head", "3-4"), {"1", "3", "4", "head"}),
    ],
)
def test_numbers_and_ranges_name_whole_layers(patterns, layers):
    assert select(NAMES, patterns) == [name for name in NAMES if layer_of(name) in layers]


def test_globs_name_modules_in_the_order_of_the_model():
    assert select(NAMES, ["*mlp*", "*q_proj"]) == NAMES[:-1]
    assert select(NAMES, ["model.layers.1.*"]) == NAMES[2:4]
    assert select(NAMES, []) == NAMES


@pytest.mark.parametrize("pattern", ["12", "9-4", "-0:", "*k_proj*", "other", "q_proj"])
def test_a_pattern_that_names_nothing_is_told_with_what_there_is(pattern):
    with pytest.raises(ConfigError, match=r"names no adapted module; there are layers 0, 1, .*, 11, head") as told:
        select(NAMES, ["1", pattern])
    assert len(told.value.problems) == 1 and f"'{pattern}'" in told.value.problems[0]
    assert "model.layers.*.self_attn.q_proj, model.layers.*.mlp.up_proj, score" in str(told.value)


def test_settings_take_numbers_and_single_patterns_and_count_for_identity():
    assert AttributeConfig(layers=[7, "4-9"]).layers == ("7", "4-9")
    assert AttributeConfig(layers="-4:").layers == ("-4:",)
    plain = AttributeConfig().identity()
    assert plain != AttributeConfig(layers=[7]).identity()
    assert plain != AttributeConfig(pilot=None).identity()


def test_parts_of_blocks_add_up_by_layer():
    blocks = ["h.0.a", "h.10.a", "h.2.a", "h.2.b", "score.weight"]
    parts = np.arange(2 * 5 * 3, dtype=float).reshape(2, 5, 3)
    found = by_layer(parts, blocks)
    assert found.dtype == np.float32 and layer_names(blocks) == ["0", "2", "10", "head"]
    np.testing.assert_array_equal(found[:, 1], parts[:, 2] + parts[:, 3])
    np.testing.assert_array_equal(found[:, 2], parts[:, 1])
    np.testing.assert_array_equal(found.sum(1), parts.sum(1))


def test_shares_are_of_the_absolute_contributions():
    found = shares(np.array([[3.0, -1.0], [0.0, 0.0], [np.nan, 1.0]]))
    np.testing.assert_array_equal(found[0], [0.75, -0.25])
    assert np.isnan(found[1:]).all()


def test_the_table_holds_every_pair_of_a_small_set():
    parts = {"m": np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)}
    frame = layers_table(list("abcde"), "dpo", {"x": 0, "z": 2}, parts, ["0", "head"]).to_pandas()
    assert len(frame) == 5 * 2 * 2 and set(frame.stage) == {"dpo"} and set(frame.method) == {"m"}
    one = frame[(frame.pair_id == "c") & (frame.vertical == "z")]
    assert one.layer.tolist() == ["0", "head"]
    np.testing.assert_array_equal(one.contribution, parts["m"][2, :, 2])
    np.testing.assert_allclose(one.share.abs().sum(), 1, rtol=1e-6)


def test_the_table_holds_the_two_ends_of_a_large_set():
    score = np.random.default_rng(1).permutation(3000).astype(np.float32) - 1500
    score[17] = np.nan
    parts = np.stack([score, 2 * score], axis=1)[:, :, None]
    ids = [str(i) for i in range(3000)]
    frame = layers_table(ids, "sft", {"x": 0}, {"m": parts}, ["0", "1"]).to_pandas()
    order = [str(i) for i in np.argsort(np.where(np.isnan(score), 0, score))]
    assert set(frame.pair_id) == {*order[:100], *order[-100:]} and len(frame) == 400


def test_without_scores_the_table_is_empty_and_has_its_columns():
    table = layers_table(["a"], "sft", {}, {}, [])
    assert table.num_rows == 0
    assert table.column_names == ["pair_id", "stage", "vertical", "method", "layer", "contribution", "share"]
