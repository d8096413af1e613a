"""Log-probabilities of tokens and their gradient against autograd's own."""

from __future__ import annotations

import pytest
import torch

from preftrace.models.token_logprobs import token_logprobs


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_value_and_gradient_are_those_of_log_softmax(scale):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(7, 11, generator=generator, dtype=torch.float64)
    tokens, weights = torch.randint(0, 11, (7,), generator=generator), torch.randn(7, generator=generator).double()
    found, wanted = (logits.clone().requires_grad_(True) for _ in range(2))
    values = token_logprobs(found, tokens)
    plain = wanted.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
    torch.testing.assert_close(values, plain, rtol=1e-12, atol=1e-12)
    (values * weights).sum().backward()
    (plain * weights).sum().backward()
    torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-12, atol=1e-12)


def test_it_agrees_with_finite_differences():
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: token_logprobs(x, torch.tensor([0, 4, 2])), logits)
