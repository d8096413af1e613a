"""What the exact tests share."""

import pytest
import torch


@pytest.fixture
def softmax64(monkeypatch):
    """Softmax in the precision of what it is given.

    Eager attention asks for float32 whatever the weights are. How its sums over longer rows with exact zeros are
    rounded depends on the width of the processor's vectors: with AVX512 alike by luck, with AVX2 1e-7 apart.
    """
    plain = torch.nn.functional.softmax
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim=None, dtype=None, **_: plain(x, dim))
