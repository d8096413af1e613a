"""The first pair of every run by a plain backward pass too: where the hooks give something else, nothing is computed.

Hooks see what a model hands to its modules. A model that uses them in a way that nobody thought of would get gradients
of no loss at all, and scores that look like any others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from preftrace.attribute.capture import Capture, Gradients, row_values
from preftrace.errors import ModelError
from preftrace.models.prompts import Encoded

LIMITS = {"full": 1e-2, "low": 0.5}
"""Relative error of a matrix that no rounding makes, in float32 or wider, and with bfloat16 products."""
SMALL = 1e-2
"""A matrix's error is relative to its gradient's norm, or to so much of the largest matrix's, if that is more."""


def plain_gradients(
    capture: Capture, rows: Sequence[Encoded], objective: Callable[[torch.Tensor], torch.Tensor] = torch.sum
) -> Gradients:
    """Matrix -> `(1, numel)`, the gradient of one number by autograd, every row in a forward pass of its own.

    Args:
        capture: not entered: inside, the adapter is folded into the weights.
        rows: of one example.
        objective: from the rows' values `(N,)` to one number.
    """
    lm, named = capture.lm, capture.weights()
    for weight in named.values():
        weight.requires_grad_(True)
    try:
        with torch.enable_grad():
            with lm.autocast():
                values = torch.cat([row_values(lm, [row]) for row in rows])
            found = torch.autograd.grad(objective(values).sum(), list(named.values()), materialize_grads=True)
    finally:
        for weight in named.values():
            weight.requires_grad_(False)
    wide = (g.reshape(1, -1).to(torch.promote_types(g.dtype, torch.float32)) for g in found)
    return dict(zip(named, wide, strict=True))


def compare(capture: Capture, rows: Sequence[Encoded], plain: Gradients) -> None:
    """See that the hooks give a pair's plain gradients, of the sum of its rows' values.

    Args:
        capture: entered.
        rows: of the pair.
        plain: what `plain_gradients` found; nothing is compared where that is not finite.

    Raises:
        ModelError: they give something else.
    """
    if not all(bool(torch.isfinite(g).all()) for g in plain.values()):
        return
    found = capture.gradients(rows, [0] * len(rows), lambda values: values.sum()[None])
    largest = max(float(g.norm()) for g in plain.values())
    limit = LIMITS["low" if capture.lm.precision in ("bfloat16", "autocast") else "full"]
    for name, wanted in plain.items():
        off = float((found[name] - wanted).norm()) / (max(float(wanted.norm()), SMALL * largest) or 1.0)
        if not off <= limit:
            raise ModelError(
                f"this model's pair gradients cannot be trusted: that of {name} is off by {off:.0%} from a plain "
                "backward pass. `preftrace doctor` says more; please report the model, or leave the module out of "
                "targets."
            )
