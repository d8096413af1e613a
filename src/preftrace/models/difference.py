"""The difference of two whole checkpoints of one architecture as a LoRA adapter, matrix by matrix.

For a linear weight, Delta = W_tuned - W_base = U S V^T, and the best matrix of rank r is its first r terms (Eckart and
Young 1936, https://doi.org/10.1007/BF02288367). They are shared out in balance, A = sqrt(S) V^T and B = U sqrt(S), so
that A A^T = B^T B = S: gradients with respect to A and to B then carry the same scale. With alpha = r, B A is added as
it is. What LoRA on linear modules cannot hold (embeddings, norms, biases, the output head) stays as it was in the base.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import torch

from preftrace.config import AdapterConfig
from preftrace.errors import ConfigError, ModelError
from preftrace.models.adapters import ADAPTER_NAME, lora_config
from preftrace.models.checkpoints import locate
from preftrace.models.weights import Weights, open_weights

OVERSAMPLING = 8
"""Further directions that the random SVD looks at (arXiv 0909.4061, section 4.2); the first is the one left out."""
POWER_STEPS = 4


class Factors(NamedTuple):
    """A low-rank piece of a matrix.

    Attributes:
        a: `(r, d_in)` float32, sqrt(S) V^T; rows of zeros where the matrix has fewer than r directions.
        b: `(d_out, r)` float32, U sqrt(S).
        norm: Frobenius norm of the whole matrix.
        energy: sum of the r largest squared singular values over norm^2, in [0, 1]; NaN for a matrix of zeros.
        left_out: the largest singular value that is not in b a; 0 where nothing is left out.
    """

    a: torch.Tensor
    b: torch.Tensor
    norm: float
    energy: float
    left_out: float


class Place(NamedTuple):
    """A tensor of both models: its name in the model, and in either one's files."""

    name: str
    base: str
    tuned: str


class Matrix(NamedTuple):
    """A linear module that gets an adapter.

    Attributes:
        name: of the module.
        key: of its adapter in the adapter's file, less `.lora_A.weight`.
        place: its weight.
        transposed: whether the weight is stored `(d_in, d_out)`, as GPT-2's are.
    """

    name: str
    key: str
    place: Place
    transposed: bool


class Plan(NamedTuple):
    """What is to be done with two models.

    Attributes:
        base: the weights that the adapter is for.
        tuned: the weights that it goes to.
        matrices: what gets an adapter, in the order of the model.
        rest: all other tensors, in the order of the model.
        settings: PEFT's settings of the adapter.
        positions: most tokens of a row that both take; None: no such limit.
    """

    base: Weights
    tuned: Weights
    matrices: list[Matrix]
    rest: list[Place]
    settings: Any
    positions: int | None


def balanced_factors(delta: torch.Tensor, r: int, seed: int | None = None) -> Factors:
    """The best rank-r piece of a matrix, in balanced factors.

    Args:
        delta: `(d_out, d_in)`.
        r: rank, at least 1.
        seed: None: the exact SVD. A number: a randomised one (arXiv 0909.4061, algorithm 4.4) with this seed, whose
            energy is a lower bound and whose left-out value is an estimate.
    """
    delta = delta.float()
    norm = float(torch.linalg.vector_norm(delta, dtype=torch.float64))
    a, b = delta.new_zeros(r, delta.shape[1]), delta.new_zeros(delta.shape[0], r)
    if norm == 0:
        return Factors(a, b, 0.0, math.nan, 0.0)
    if seed is None:
        u, s, vh = torch.linalg.svd(delta, full_matrices=False)
    else:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            u, s, v = torch.svd_lowrank(delta, q=min(r + OVERSAMPLING, *delta.shape), niter=POWER_STEPS)
        vh = v.T
    k = min(r, len(s))
    root = s[:k].sqrt()
    a[:k], b[:, :k] = root[:, None] * vh[:k], u[:, :k] * root
    energy = min(float(s[:k].double().square().sum()) / norm**2, 1.0)
    return Factors(a, b, norm, energy, float(s[k]) if len(s) > k else 0.0)


def plan(base: str, tuned: str, adapter: AdapterConfig) -> Plan:
    """Which tensors of two models belong together, and which of them an adapter holds. Reads no weights.

    Args:
        base: the model that the adapter is for: `starter`, a folder, or a Hub id.
        tuned: the model that it goes to, likewise.
        adapter: rank, scale and targets.

    Raises:
        ModelError: a model cannot be found or read, or the two are not of one architecture and size.
        ConfigError: the targets fit no linear module.
    """
    skeleton, other = (_skeleton(name) for name in (base, tuned))
    if type(skeleton) is not type(other):
        kinds = f"{type(skeleton).__name__} and {type(other).__name__}"
        raise ModelError(f"'{base}' and '{tuned}' are of different architectures ({kinds}): they have no difference.")
    files = open_weights(base), open_weights(tuned)
    places = _places(skeleton, other, *files)
    wrapped = _wrap(skeleton, adapter)
    matrices = _matrices(wrapped, places)
    held = {matrix.place for matrix in matrices}
    rest = list(dict.fromkeys(place for place in places.values() if place not in held))
    limits = [model.config.to_dict().get("max_position_embeddings") for model in (skeleton, other)]
    positions = min((limit for limit in limits if limit is not None), default=None)
    return Plan(*files, matrices, rest, wrapped.peft_config[ADAPTER_NAME], positions)


def difference(plan: Plan, place: Place, device: torch.device | None = None) -> tuple[torch.Tensor, float]:
    """`tuned - base` of one tensor in float32, and the norm of base's.

    Of an embedding that has more rows in one model, the rows that both have.

    Raises:
        ModelError: a tensor cannot be read, or is not finite.
    """
    before = plan.base.read(place.base).to(device).float()
    after = plan.tuned.read(place.tuned).to(device).float()
    if before.ndim:
        rows = min(len(before), len(after))
        before, after = before[:rows], after[:rows]
    delta = after - before
    if not bool(torch.isfinite(delta).all()):
        raise ModelError(f"{place.name} of '{plan.base.model}' or '{plan.tuned.model}' is not finite.")
    return delta, float(torch.linalg.vector_norm(before, dtype=torch.float64))


def dtypes(plan: Plan) -> tuple[str, str]:
    """How both models store the first adapted matrix, such as `float32` and `bfloat16`."""
    first = plan.matrices[0].place
    kinds = plan.base.read(first.base).dtype, plan.tuned.read(first.tuned).dtype
    before, after = (str(kind).removeprefix("torch.") for kind in kinds)
    return before, after


def _skeleton(model: str) -> Any:
    """The model's modules with tensors that have shapes and no numbers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    source, revision = locate(model)
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
        if any(name.endswith("ForSequenceClassification") for name in config.architectures or []):
            raise ModelError(f"'{model}' is a classifier or reward model, which gives no answers; name a policy")
        if getattr(config, "quantization_config", None) is not None:
            raise ModelError(
                f"'{model}' is quantised: its weights are not read here. Name the model in full precision."
            )
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"cannot load the model '{model}': {first}") from error


def _places(skeleton: Any, other: Any, base: Weights, tuned: Weights) -> dict[str, Place]:
    """Every tensor of the model by each of its names (tied tensors have several)."""
    names, others = _names(skeleton), _names(other)
    if odd := sorted(set(names) ^ set(others)):
        raise ModelError(
            f"'{base.model}' and '{tuned.model}' are of different architectures: {odd[0]} is in one of them only "
            f"({len(odd)} such tensors)."
        )
    resizable = {id(m.weight) for m in (skeleton.get_input_embeddings(), skeleton.get_output_embeddings()) if m}
    found, unlike = {}, []
    for name, (key, aliases) in names.items():
        place = Place(
            next(alias for alias in aliases if alias in others[name][1]),
            _stored(base, aliases, skeleton.base_model_prefix),
            _stored(tuned, others[name][1], skeleton.base_model_prefix),
        )
        shapes = base.shapes[place.base], tuned.shapes[place.tuned]
        if shapes[0] != shapes[1] and not (key in resizable and shapes[0][1:] == shapes[1][1:]):
            unlike.append(f"{name} is {_size(shapes[0])} and {_size(shapes[1])}")
        found[name] = place
    if unlike:
        raise ModelError(
            f"'{base.model}' and '{tuned.model}' are of different sizes: {unlike[0]} ({len(unlike)} such tensors)."
        )
    return found


def _names(skeleton: Any) -> dict[str, tuple[int, list[str]]]:
    """Name of a stored tensor -> the tensor's id, and all names of the same tensor."""
    state = skeleton.state_dict(keep_vars=True)
    alike: dict[int, list[str]] = {}
    for name, tensor in state.items():
        alike.setdefault(id(tensor), []).append(name)
    return {name: (id(tensor), alike[id(tensor)]) for name, tensor in state.items()}


def _stored(weights: Weights, aliases: list[str], prefix: str) -> str:
    """A tensor's name in a model's files: one of its own, or that with or without the base model's prefix."""
    for name in aliases:
        for candidate in (name, name.removeprefix(f"{prefix}."), f"{prefix}.{name}"):
            if candidate in weights.files:
                return candidate
    raise ModelError(f"the weights of '{weights.model}' lack {aliases[0]}, which its configuration asks for.")


def _wrap(skeleton: Any, adapter: AdapterConfig) -> Any:
    from peft import get_peft_model

    try:
        with warnings.catch_warnings():
            # PEFT says what it settles by itself: that Conv1D is stored transposed, that an adapted tensor is tied.
            warnings.simplefilter("ignore")
            return get_peft_model(skeleton, lora_config(adapter))
    except (ValueError, TypeError) as error:
        raise ConfigError([f"targets: {error}"]) from error


def _matrices(wrapped: Any, places: dict[str, Place]) -> list[Matrix]:
    from peft.tuners.lora import Linear
    from peft.tuners.tuners_utils import BaseTunerLayer

    shared = [place for name, place in places.items() if name != place.name]
    found = []
    for key, module in wrapped.named_modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        name = key.removeprefix("base_model.model.")
        if not isinstance(module, Linear):
            raise ConfigError([f"targets: {name} is not a linear module; name linear ones, or all-linear"])
        place = places[f"{name}.weight"]
        if place in shared:
            raise ConfigError([f"targets: {name} shares its weight with another module; an adapter is for one only"])
        found.append(Matrix(name, key, place, bool(module.fan_in_fan_out)))
    return found


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
