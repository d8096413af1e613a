"""Rows of gradients in fewer bytes: bfloat16 as its bits, or 8-bit integers with a scale for each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

Kind = Literal["float32", "bf16", "int8"]


def encode(rows: np.ndarray, kind: Kind) -> dict[str, np.ndarray]:
    """Rows `(n, D)` float32 as `values`, and for int8 `scales` `(n,)`. A row that is not finite decodes to NaN."""
    if kind == "float32":
        return {"values": np.ascontiguousarray(rows, np.float32)}
    if kind == "bf16":
        return {"values": to_bf16(rows)}
    # A scale is rounded up, so that the largest number stays within 127 steps.
    most = np.abs(rows).max(1, initial=0.0).astype(np.float32)
    scales = to_bf16(most / 127 * np.float32(1.004))
    step = from_bf16(scales)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where((step > 0) & np.isfinite(step), np.rint(rows / step), 0)
    return {"values": np.clip(values, -127, 127).astype(np.int8), "scales": scales}


def decode(parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rows `(n, D)` float32."""
    values = parts["values"]
    if values.dtype == np.uint16:
        return from_bf16(values)
    if values.dtype == np.int8:
        with np.errstate(invalid="ignore"):  # 0 x infinity is how a row that is not finite becomes NaN
            return np.asarray(values.astype(np.float32) * from_bf16(parts["scales"])[:, None])
    return values


def to_bf16(x: np.ndarray) -> np.ndarray:
    """The bits of the nearest bfloat16 (ties to even), uint16."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FC0), rounded)


def from_bf16(bits: np.ndarray) -> np.ndarray:
    """float32 of bfloat16's bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
