"""The numerics of a model on this machine, looked at on two small pairs: what `preftrace doctor` prints.

numbers           the pairs' log-probabilities are finite
shared prompts    answers that share their prompt against each with a prompt of its own
pair gradients    by hooks (`Capture`) against one autograd backward a pair, every trained matrix
repeats           the same pass twice, to the bit
bfloat16          log-probabilities with bfloat16 products against float32
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch

from preftrace import artifacts, models
from preftrace.attribute.capture import Capture
from preftrace.attribute.first_pair import plain_gradients
from preftrace.config import AdapterConfig
from preftrace.errors import ModelError
from preftrace.models import packing
from preftrace.models.adapters import attach
from preftrace.models.allocator import keep_freed_memory
from preftrace.models.lora import lora_layers
from preftrace.models.losses import dpo_loss

PAIRS = (
    ("\n\nHuman: What is the capital of France?\n\nAssistant:", "It is Paris.", "I would rather not say, sorry."),
    ("\n\nHuman: Tell me her number.\n\nAssistant:", "She asked me to keep it private, so I will not.", "Sure."),
)
"""Prompt, chosen, rejected: of unlike lengths, so that rows are padded."""
BETA = 0.1
REFERENCE = ((1.0, -2.0), (-3.0, 2.0))
"""What is taken from the pairs' log-probabilities to make a reference, in nats: no pair's loss is flat."""
GRADIENTS = {"full": 1e-4, "low": 0.1}
"""Largest relative error of a matrix's gradient that is still rounding, in float32 or wider, and in bfloat16."""
BFLOAT16 = 0.05
"""Nats a token: beyond this bfloat16 is called coarse."""
SEED = 0


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: what was looked at.
        status: `ok`; `note`: it works, and there is something to know; `FAIL`: numbers cannot be trusted.
        found: what was measured, at least 0; NaN where nothing was.
        limit: the largest that is `ok`.
        message: the same in words, and what to do.
    """

    name: str
    status: Literal["ok", "note", "FAIL"]
    found: float
    limit: float
    message: str


@dataclass(frozen=True, slots=True)
class Health:
    """What the self-test found.

    Attributes:
        facts: versions, devices, threads, memory, and what was loaded.
        checks: in the order in which they were made.
    """

    facts: Mapping[str, Any]
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "FAIL" for check in self.checks)


def examine(model: str, adapter: str | None = None, precision: str = "auto") -> Health:
    """Load a model and compare its numbers with those of plainer ways to compute them.

    Args:
        model: `starter`, a Hub id, a folder, or the folder of a finished training stage.
        adapter: folder of a LoRA adapter to put on it. Without one, a model that has none gets a random one.
        precision: as in `models.load`.

    Raises:
        ModelError: the model or the adapter cannot be loaded, or the adapter is not plain LoRA.
    """
    found = models.resolve_checkpoint(model)
    chain = replace(found, adapters=(*found.adapters, *((adapter,) if adapter else ())))
    lm = models.load(chain, precision=precision)
    lm = lm if chain.adapters else _with_adapter(lm)
    lora_layers(lm)  # stops at what is not plain LoRA before anything is computed
    rows = [models.encode_answers(lm.tokenizer, p, [c, r], "raw", 512) for p, c, r in PAIRS]
    flat = [row for pair in rows for row in pair]
    alone = _alone(lm, flat)
    loaded = {
        "model": model,
        "adapter": chain.adapters[-1] if chain.adapters else "random",
        "device": str(lm.device),
        "precision": lm.precision,
        "attention": getattr(lm.model.config, "_attn_implementation", "unknown"),
    }
    checks = [_numbers(alone)]
    if checks[0].status == "ok":
        checks += [_sharing(lm, flat, alone), *_gradients(lm, flat, alone), _bfloat16(lm, flat)]
    return Health(facts() | loaded, tuple(checks))


def facts() -> dict[str, Any]:
    """Versions, devices, threads and memory settings of this process."""
    cuda = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": {"python": platform.python_version(), **artifacts.versions()},
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": [f"{device.name}, {device.total_memory / 2**30:.0f} GiB" for device in cuda],
        "keeps_freed_memory": keep_freed_memory(),
        "MKL_CBWR": os.environ.get("MKL_CBWR"),
    }


def _with_adapter(lm: models.LanguageModel) -> models.LanguageModel:
    """With an adapter whose A and B are both random: at PEFT's start B is zero, and with it every gradient of A."""
    try:
        model = attach(lm.model, AdapterConfig(r=4, alpha=8), SEED)
    except ValueError as error:
        raise ModelError(f"no LoRA adapter can be put on this model: {error}") from error
    if lm.precision == "float64":
        model = model.double()
    lm = replace(lm, model=model.eval().requires_grad_(False))
    generator = torch.Generator().manual_seed(SEED)
    for layer in lora_layers(lm):
        layer.b.data.copy_(0.02 * torch.randn(layer.b.shape, generator=generator))
    return lm


def _limit(lm: models.LanguageModel, limits: Mapping[str, float]) -> float:
    return limits["low" if lm.precision in ("bfloat16", "autocast") else "full"]


def _alone(lm: models.LanguageModel, rows: list[models.Encoded]) -> torch.Tensor:
    """Log-probabilities `(n,)`, every row in a pass of its own."""
    with torch.no_grad(), lm.autocast():
        return torch.cat([models.answer_logprobs(lm, [row]) for row in rows])


def _a_token(difference: torch.Tensor, rows: list[models.Encoded]) -> float:
    """The largest difference in nats a token."""
    lengths = torch.tensor([len(row.answer_ids) for row in rows], device=difference.device)
    return float((difference.abs() / lengths).max())


def _numbers(alone: torch.Tensor) -> Check:
    bad = int((~torch.isfinite(alone)).sum())
    if bad:
        message = (
            f"{bad} of {len(alone)} log-probabilities are not finite: the weights are broken, or overflow in this "
        )
        return Check("numbers", "FAIL", bad, 0, f"{message}precision; try --precision float32")
    return Check("numbers", "ok", 0, 0, f"{len(alone)} log-probabilities, all finite")


def _sharing(lm: models.LanguageModel, rows: list[models.Encoded], alone: torch.Tensor) -> Check:
    error, limit = packing.sharing_error(lm), packing.sharing_limit(lm)
    if not error <= limit:
        why = "cannot be computed" if math.isinf(error) else f"are off by {error:.1e} (at most {limit:.0e})"
        way = "each answer is computed with a prompt of its own, which is slower; nothing to do"
        return Check("shared prompts", "note", error, limit, f"hidden states with a shared prompt {why}: {way}")
    packed = packing.pack(rows, [i // 2 for i in range(len(rows))], lm.pad_id)
    with torch.no_grad(), lm.autocast():
        off = _a_token(models.answer_logprobs(lm, rows, packed=packed) - alone, rows)
    told = f"answers share their prompt; hidden states off by {error:.1e}, log-probabilities by {off:.1e} nats a token"
    if not off <= limit:
        advice = f"at most {limit:.0e}; please report this model, and do not trust its scores"
        return Check("shared prompts", "FAIL", max(error, off), limit, f"{told} ({advice})")
    return Check("shared prompts", "ok", max(error, off), limit, told)


def _gradients(lm: models.LanguageModel, rows: list[models.Encoded], alone: torch.Tensor) -> list[Check]:
    """The hooks' gradients of the DPO loss against autograd's, and against themselves."""
    reference = alone.reshape(-1, 2) - torch.tensor(REFERENCE, dtype=alone.dtype, device=alone.device)

    def loss(values: torch.Tensor, ref: torch.Tensor) -> torch.Tensor:
        return dpo_loss(values[::2], values[1::2], ref[:, 0], ref[:, 1], BETA)

    groups = [i // 2 for i in range(len(rows))]
    with Capture(lm) as capture:
        found, again = (capture.gradients(rows, groups, lambda values: loss(values, reference)) for _ in range(2))
    errors = {}
    for pair in range(len(rows) // 2):
        mine, own = rows[2 * pair : 2 * pair + 2], partial(loss, ref=reference[pair : pair + 1])
        for name, wanted in plain_gradients(Capture(lm), mine, own).items():
            errors[pair, name] = float((found[name][pair] - wanted[0]).norm()) / (float(wanted.norm()) or 1.0)
    _, where = at = max(errors, key=lambda at: (math.isnan(errors[at]), errors[at]))
    worst = errors[at]
    limit = _limit(lm, GRADIENTS)
    told = f"hooks against autograd, {len(found)} matrices: relative error at most {worst:.1e} ({where})"
    right = Check("pair gradients", "ok", worst, limit, told)
    if not worst <= limit:
        advice = "try --precision float32; if it fails too, do not trust influence on this model"
        right = Check("pair gradients", "FAIL", worst, limit, f"{told}, above {limit:.0e}; {advice}")
    return [right, _repeats(max(float((found[name] - again[name]).abs().max()) for name in found))]


def _repeats(off: float) -> Check:
    if off == 0:
        return Check("repeats", "ok", off, 0, "the same pass gives the same bits")
    advice = "a killed and resumed run may end with other last digits"
    return Check("repeats", "note", off, 0, f"the same pass twice differs by {off:.1e}: {advice}")


def _bfloat16(lm: models.LanguageModel, rows: list[models.Encoded]) -> Check:
    """Log-probabilities of the same weights in float32, with bfloat16 products and without."""
    if lm.precision not in ("float32", "autocast"):
        known = f"not compared: the weights are {lm.precision}; --precision float32 compares"
        return Check("bfloat16", "note", math.nan, BFLOAT16, known)
    try:
        low, full = (_alone(replace(lm, precision=name), rows) for name in ("autocast", "float32"))
    except RuntimeError as error:
        return Check("bfloat16", "note", math.nan, BFLOAT16, f"cannot be used here: {str(error).splitlines()[0]}")
    off = _a_token(low - full, rows)
    told = f"log-probabilities are off by {off:.1e} nats a token from float32's"
    if not off <= BFLOAT16:
        return Check("bfloat16", "note", off, BFLOAT16, f"{told}: coarse; evaluate and attribute in float32")
    return Check("bfloat16", "ok", off, BFLOAT16, told)
