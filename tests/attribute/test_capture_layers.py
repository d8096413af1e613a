"""Capture of some layers: the gradients are those of a capture of all, and nothing is computed below them."""

from __future__ import annotations

import pytest
import torch

from preftrace.attribute.capture import HEAD_NAME, Capture
from preftrace.attribute.layers import layer_of
from preftrace.errors import ConfigError
from tests.attribute.conftest import rows
from tests.attribute.test_capture_reward import reward_model


def captured(lm, layers):
    """Gradients, and for each decoder layer whether its output had a gradient."""
    chosen, _ = rows(lm)
    asked = {}
    watched = [
        layer.register_forward_hook(
            lambda _m, _i, out, n=n: asked.update({n: (out if torch.is_tensor(out) else out[0]).requires_grad})
        )
        for n, layer in enumerate(lm.model.get_base_model().model.layers)
    ]
    with Capture(lm, layers) as capture:
        found = capture.gradients(chosen, [*range(len(chosen))], lambda values: values)
        assert list(found) == list(capture.shapes)
    for hook in watched:
        hook.remove()
    return found, asked


def same(found, whole, names):
    assert set(found) == set(names) and names
    for name in names:
        torch.testing.assert_close(found[name], whole[name], rtol=1e-12, atol=0)
        assert found[name].norm() > 0


@pytest.mark.parametrize(
    ("layers", "below"), [(["1"], False), (["-1:"], False), (["0"], True), (["*q_proj"], True), (["*1.*q_proj"], False)]
)
def test_gradients_of_some_modules_are_those_of_all(lm64, layers, below):
    whole, asked = captured(lm64, [])
    assert asked[0]
    found, asked = captured(lm64, layers)
    kind = "q_proj" if "q_proj" in layers[0] else ""
    wanted = {"0"} if layers == ["0"] else {"0", "1"} if below else {"1"}
    same(found, whole, [name for name in whole if layer_of(name) in wanted and kind in name])
    assert asked[0] is below


def test_a_reward_models_head_is_a_layer_of_its_own():
    rm = reward_model()
    whole, _ = captured(rm, [])
    same(captured(rm, ["head"])[0], whole, [HEAD_NAME])
    found, asked = captured(rm, ["1", "head"])
    same(found, whole, [HEAD_NAME, *(name for name in whole if layer_of(name) == "1")])
    assert not asked[0]


def test_hooks_are_gone_afterwards(lm64):
    captured(lm64, ["1"])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm64.model.modules())


def test_a_layer_that_is_not_there_is_told(lm64):
    with pytest.raises(ConfigError, match="'2' names no adapted module; there are layers 0, 1"):
        Capture(lm64, ["1", "2"])
