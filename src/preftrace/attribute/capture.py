"""Per-example gradients of an adapter from one backward pass, by hooks.

For y = W x + s B A x, an example's gradient needs only the module's input x_t and delta_t, the gradient at its output:

    dB = s sum_t delta_t (A x_t)^T        dA = s sum_t (B^T delta_t) x_t^T

summed over the rows of the example (a pair has two). One backward of the *sum* of the examples' objectives gives every
delta, since no example's objective depends on another's rows. No weight needs a gradient of its own, so that the
adapter is folded into the weights meanwhile.

A reward model's head, r = w . h at a row's last token, is trained whole: dw = sum_rows delta h.

The backward pass ends at the outputs of the lowest modules that are looked at: what comes before has no part in any
delta.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

import torch

from preftrace.attribute.layers import select
from preftrace.errors import ModelError
from preftrace.models.blocks import block_attention
from preftrace.models.loading import LanguageModel
from preftrace.models.logprobs import answer_logprobs
from preftrace.models.lora import LoraLayer, folded, lora_layers, trained_head
from preftrace.models.packing import Packed, keys_of, pack, shares_prompts
from preftrace.models.prompts import Encoded
from preftrace.models.reward import HEAD, RewardModel, rewards

Gradients = dict[str, torch.Tensor]
"""Name of a trained matrix -> `(n, numel)`, one row an example, in float32 (float64 for a float64 model)."""
Observer = Callable[[str, torch.Tensor, torch.Tensor], None]
"""What `Capture.observe` is."""
HEAD_NAME = f"{HEAD}.weight"


class Capture:
    """Hooks on every adapted module, and a reward model's head, while the block lasts: `with Capture(lm) as capture:`.

    Args:
        lm: the model.
        layers: patterns of the modules that are looked at, as in `layers.select`; none: all of them.

    Attributes:
        shapes: matrix -> its shape, of the modules that are looked at.
        observe: where set, called in the backward pass with a block's name, its `left` `(rows, t, a)` and its `right`
            `(rows, t, b)`: row p's gradient is sum_t left_pt right_pt^T. Rows are packed rows and t their tokens; of
            the head, rows are the given rows and t is 1.

    Raises:
        ModelError: the model has no plain LoRA adapter.
        ConfigError: a pattern names no adapted module.
    """

    def __init__(self, lm: LanguageModel, layers: Sequence[str] = ()) -> None:
        self.lm = lm
        every, head = lora_layers(lm), trained_head(lm)
        self._every, self._inside = every, ExitStack()
        names = select([layer.name for layer in every] + ([] if head is None else [HEAD]), layers)
        self.layers = [layer for layer in every if layer.name in names]
        self.head = head if HEAD in names else None
        self.shapes = {name: tuple(weight.shape) for name, weight in self.weights().items()}
        self._handles: list[Any] = []
        self._groups: torch.Tensor | None = None
        self._packs: torch.Tensor | None = None
        self._places, self._size = torch.Size(), 0
        self._found: Gradients = {}
        self.observe: Observer | None = None
        self._wide = torch.float64 if every[0].a.dtype == torch.float64 else torch.float32

    def weights(self) -> dict[str, torch.Tensor]:
        """The trained matrices that are looked at, by name."""
        found: dict[str, torch.Tensor] = {name: weight for layer in self.layers for name, weight in _tensors(layer)}
        return found if self.head is None else found | {HEAD_NAME: self.head.weight}

    def __enter__(self) -> Capture:
        shares_prompts(self.lm)  # found out before there are hooks
        self._inside.enter_context(folded(self.lm, self._every))
        self._inside.enter_context(block_attention(self.lm))
        takers: list[tuple[Any, Any]] = [(layer.module, partial(self._add, layer)) for layer in self.layers]
        takers += [] if self.head is None else [(self.head, self._add_head)]
        self._handles = [module.register_forward_hook(self._forward_hook(take)) for module, take in takers]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._inside.close()

    def gradients(
        self,
        rows: Sequence[Encoded],
        groups: Sequence[int],
        objective: Callable[[torch.Tensor], torch.Tensor],
        temperature: float = 1.0,
    ) -> Gradients:
        """Each example's gradient of its objective.

        Args:
            rows: N prompts and answers.
            groups: `groups[j]` in 0..n-1 is the example that row j belongs to.
            objective: from the rows' values `(N,)`, log-probabilities of a language model or rewards of a reward
                model, to the examples' objectives `(n,)`; the one of example i may use the rows of example i only.
            temperature: of the log-probabilities.

        Returns:
            For every trained matrix `(n, numel)`.

        Raises:
            ModelError: an adapted module does not see every token.
        """
        n = self._size = max(groups) + 1
        packed = pack(rows, keys_of(self.lm, rows, groups), self.lm.pad_id).to(self.lm.device)
        owners = torch.tensor(groups, device=self.lm.device)
        # A packed row holds rows of one example only.
        packs = torch.zeros(len(packed.ids), dtype=torch.long, device=self.lm.device)
        packs[packed.home] = owners
        self._groups, self._packs = self._owners(owners), self._owners(packs)
        self._places = packed.ids.shape
        self._found = {}
        with torch.enable_grad():
            with self.lm.autocast():
                values = row_values(self.lm, rows, temperature, packed)
            objective(values).sum().backward()  # type: ignore[no-untyped-call]
        found, self._found = self._found, {}
        for name, shape in self.shapes.items():
            if name not in found:  # a module that had no part in the pass
                found[name] = torch.zeros((n, *shape), dtype=self._wide, device=self.lm.device)
        return {name: found[name].reshape(n, -1) for name in self.shapes}

    def _forward_hook(self, take: Callable[[torch.Tensor, torch.Tensor], None]) -> Callable[..., torch.Tensor]:
        def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            if not torch.is_grad_enabled():
                return output
            x = inputs[0].detach()
            # Of the lowest modules, whose inputs have no gradient. A copy goes on: what comes next may write into it.
            after = output if output.requires_grad else output.requires_grad_(True).clone()
            output.register_hook(lambda delta: take(x, delta))  # type: ignore[no-untyped-call]
            return after

        return hook

    def _add_head(self, h: torch.Tensor, delta: torch.Tensor) -> None:
        delta, h = delta.to(self._wide)[:, None], h.to(self._wide)[:, None]
        self._outer(HEAD_NAME, delta, h, self._groups)

    def _add(self, layer: LoraLayer, x: torch.Tensor, delta: torch.Tensor) -> None:
        (name_a, a), (name_b, b) = _tensors(layer)
        wide = self._wide
        x, delta = (self._by_place(layer, side).to(wide) for side in (x, delta))
        narrow_a, narrow_b = delta @ b.detach().to(wide) * layer.scale, x @ a.detach().to(wide).T * layer.scale
        self._outer(name_a, narrow_a, x, self._packs)
        self._outer(name_b, delta, narrow_b, self._packs)

    def _by_place(self, layer: LoraLayer, states: torch.Tensor) -> torch.Tensor:
        """`(p, t, d)` of packed rows; some models (OPT) hand a module all tokens as rows, `(p t, d)`."""
        if states.shape[:-1].numel() != self._places.numel():
            seen = (
                f"{layer.name} is given {states.shape[:-1].numel()} tokens of {self._places.numel()}, as an expert is"
            )
            raise ModelError(f"{seen}; influence is defined for modules that see every token: leave it out of targets")
        return states.reshape(*self._places, -1)

    def _outer(self, name: str, left: torch.Tensor, right: torch.Tensor, owners: torch.Tensor | None) -> None:
        if self.observe is not None:
            self.observe(name, left, right)
        # The narrow side first: a third less time than the other way about.
        wide = left.shape[-1] > right.shape[-1]
        self._sum(name, (right.mT @ left).mT if wide else left.mT @ right, owners)

    def _sum(self, name: str, rows: torch.Tensor, owners: torch.Tensor | None) -> None:
        """Add rows' gradients to those of the examples that own them; None: row i is example i."""
        if owners is not None:
            size = (self._size, *rows.shape[1:])
            rows = torch.zeros(size, dtype=rows.dtype, device=rows.device).index_add_(0, owners, rows)
        self._found[name] = self._found[name] + rows if name in self._found else rows

    def _owners(self, owners: torch.Tensor) -> torch.Tensor | None:
        own = torch.equal(owners, torch.arange(self._size, device=owners.device))
        return None if own else owners


def row_values(
    lm: LanguageModel, rows: Sequence[Encoded], temperature: float = 1.0, packed: Packed | None = None
) -> torch.Tensor:
    """What the model gives a row, `(N,)`, differentiable: its reward, or the log-probability of its answer."""
    if isinstance(lm, RewardModel):
        return rewards(lm, rows, packed)
    return answer_logprobs(lm, rows, temperature, packed)


def _tensors(layer: LoraLayer) -> tuple[tuple[str, torch.nn.Parameter], tuple[str, torch.nn.Parameter]]:
    return (f"{layer.name}.lora_A.weight", layer.a), (f"{layer.name}.lora_B.weight", layer.b)
