"""A stage's model and pairs: what is read when."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa
import pytest

from preftrace import artifacts, models
from preftrace.attribute import pair_model
from preftrace.attribute.pair_model import PairModel
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
