"""A stage's model and pairs: what is read when, and the look at the first pair of a run."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa
import pytest
import torch

from preftrace import artifacts, models
from preftrace.attribute import pair_model
from preftrace.attribute.pair_model import PairModel
from preftrace.errors import ModelError
from preftrace.models.adapters import save_adapter
from preftrace.types import Checkpoint, prompt_to_json
from tests.attribute.conftest import TEXTS, adapted

COUNT = 20


@pytest.fixture
def given(tiny_folder, tmp_path):
    """Arguments of a `PairModel` of twenty pairs."""
    save_adapter(adapted("float32").model, tmp_path / "adapter")
    texts = [TEXTS[i % len(TEXTS)] for i in range(COUNT)]
    columns = {"id": [str(i) for i in range(COUNT)], "meta": ["{}"] * COUNT}
    columns |= {"prompt_json": [prompt_to_json(f"{i}{prompt}") for i, (prompt, _, _) in enumerate(texts)]}
    columns |= {"chosen": [chosen for _, chosen, _ in texts], "rejected": [rejected for _, _, rejected in texts]}
    artifacts.write_table(tmp_path / "_pairs.parquet", pa.table(columns))
    checkpoint = asdict(Checkpoint(str(tiny_folder), (str(tmp_path / "adapter"),)))
    named = {"pairs": str(tmp_path / "_pairs.parquet"), "format": "raw", "precision": "float32"}
    return {"checkpoint": checkpoint, "loss": {"kind": "sft", "max_length": 512}, **named}


def test_only_the_pairs_that_are_asked_for_become_tokens(given, monkeypatch):
    """Tokens of all pairs would grow with their number, in every process, and be waited for before the first batch."""
    encoded, encode = [], models.encode_answers
    monkeypatch.setattr(pair_model.models, "encode_answers", lambda t, p, *a: encoded.append(p) or encode(t, p, *a))
    pairs = PairModel(**given)
    assert not encoded
    found = dict(zip((i for batch, _ in pairs.gradients(7, 10, None) for i in batch), range(3), strict=True))
    assert sorted(found) == [0, 1, 2]
    assert [prompt.partition("\n")[0] for prompt in encoded] == ["7", "8", "9"]
    assert len(pairs.rows(3, 5)) == 2


def test_a_model_whose_gradients_hooks_do_not_give_is_refused(given):
    """One whose modules' outputs are not all that comes of them: the weight is read beside the module as well."""
    pairs = PairModel(**given)
    mlp = pairs.lm.model.get_base_model().model.layers[0].mlp
    forward, up = mlp.forward, mlp.up_proj
    mlp.forward = lambda states: forward(states) + up.lora_B["default"](up.lora_A["default"](states))[..., :32]
    with pytest.raises(ModelError, match=r"layers\.0\.mlp\.up_proj.* is off by .* doctor"):
        next(pairs.gradients(0, 5, None))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "autocast", "float64"])
def test_rounding_is_no_reason_to_refuse(given, precision):
    pairs = PairModel(**given | {"precision": precision})
    _, found = next(pairs.gradients(0, 5, None))
    assert all(torch.isfinite(g).all() for g in found.values())
