"""Attention in blocks against the library's."""

import pytest
import torch
import torch.nn.functional as F

from preftrace import models
from preftrace.models import attention
from preftrace.models.attention import BLOCK, attend
from preftrace.models.blocks import block_attention
from preftrace.models.packing import backbone, inputs, pack
from preftrace.models.prompts import Encoded
from preftrace.types import Checkpoint
from tests.conftest import build_tokenizer


def packed_mask(t):
    """One row of a prompt and two answers that do not see each other, and one that is half padding."""
    first = torch.arange(t) * 5 // t
    segment = torch.stack([torch.where(first < 2, 0, torch.where(first < 4, 1, 2)), torch.arange(t) * 2 // t])
    segment[1] = -segment[1]
    mine, other = segment[:, :, None], segment[:, None]
    seen = ((other == 0) | (other == mine)) & (other != -1) & torch.ones(t, t, dtype=torch.bool).tril()
    return (seen | torch.eye(t, dtype=torch.bool))[:, None]


def draw(heads, groups, t, wide=8):
    torch.manual_seed(t)
    sizes = (heads, 16), (groups, 16), (groups, wide)
    return [torch.randn(2, t, n, d, dtype=torch.float64, requires_grad=True) for n, d in sizes]


def theirs(q, k, v, mask, scale):
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale).transpose(1, 2)


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("t", [5, BLOCK, 2 * BLOCK + 7])
def test_values_and_gradients_are_the_librarys(heads, groups, t):
    given = draw(heads, groups, t)
    q, k, v = (x.transpose(1, 2) for x in given)
    mask = packed_mask(t)
    ours = attend(torch.nn.Module(), q, k, v, mask, scaling=0.3)[0]
    assert ours.grad_fn is not None
    expected = theirs(q, k, v, mask, 0.3)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(expected)
    for mine, other in zip(
        torch.autograd.grad(ours, given, weight), torch.autograd.grad(expected, given, weight), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", ["later", "additive", "none", "long", "dropout"])
def test_what_does_not_fit_goes_to_the_library(case, monkeypatch):
    monkeypatch.setattr(attention.Blocks, "apply", lambda *_: pytest.fail("computed in blocks"))
    monkeypatch.setattr(attention, "LONGEST", 20 if case == "long" else 1024)
    q, k, v = (x.transpose(1, 2) for x in draw(4, 4, 30))
    mask = packed_mask(30)
    if case == "later":
        mask[0, 0, 0, 1] = True
    if case == "additive":
        mask = torch.zeros(mask.shape, dtype=q.dtype).masked_fill(~mask, -torch.inf)
    given = None if case == "none" else mask
    found, _ = attend(torch.nn.Module(), q, k, v, given, dropout=1e-9 if case == "dropout" else 0.0)
    expected = theirs(q, k, v, torch.ones(30, 30, dtype=torch.bool).tril() if case == "none" else mask, None)
    torch.testing.assert_close(found, expected)


def test_a_model_attends_in_blocks_only_inside(tiny_folder, monkeypatch):
    lm = models.load(Checkpoint(str(tiny_folder)), device="cpu")
    rows = [Encoded((1, 2, 3), (4, 5), False), Encoded((1, 2, 3), (6, 7, 8), False)]
    packed = pack(rows, [0, 0], lm.pad_id)
    seen, blocks = [], attention.Blocks.apply
    monkeypatch.setattr(attention.Blocks, "apply", lambda *given: seen.append(1) or blocks(*given))

    def states():
        with torch.no_grad():
            return backbone(lm)(**inputs(lm, packed), use_cache=False).last_hidden_state

    before = states()
    assert not seen
    with block_attention(lm):
        assert seen  # it was tried
        seen.clear()
        inside = states()
    assert len(seen) == lm.model.config.num_hidden_layers
    torch.testing.assert_close(inside, before, rtol=1e-5, atol=1e-6)
    states()
    assert len(seen) == lm.model.config.num_hidden_layers


def falcon(**settings):
    """A tiny model that looks at the name of its attention by itself."""
    from transformers import FalconConfig, FalconForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 258, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokens = {"bos_token_id": None, "eos_token_id": 256, "pad_token_id": 257, "initializer_range": 0.2}
    config = FalconConfig(**sizes, **tokens, **settings)
    return models.LanguageModel(FalconForCausalLM(config).eval(), build_tokenizer(), "raw")


@pytest.mark.parametrize("alibi", [False, True])
def test_a_model_that_is_off_in_blocks_is_found_out_and_left_alone(alibi, capsys):
    lm = falcon(alibi=alibi)
    assert lm.model.config._attn_implementation == "sdpa"
    with block_attention(lm):
        assert lm.model.config._attn_implementation == "sdpa"
    with block_attention(lm):
        pass
    assert capsys.readouterr().err.count("computed in blocks") == 1
