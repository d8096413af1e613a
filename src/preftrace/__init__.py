"""preftrace: what preference alignment did to a model's trustworthiness, and which pairs did it.

The public API is this page. Importing it imports no torch; each name is fetched from its room when first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from preftrace.errors import UserError as UserError
from preftrace.types import Checkpoint as Checkpoint
from preftrace.types import Item as Item
from preftrace.types import Message as Message
from preftrace.types import Pair as Pair
from preftrace.types import StageRecord as StageRecord

if TYPE_CHECKING:
    from preftrace.api import adapt as adapt
    from preftrace.api import align as align
    from preftrace.api import attribute as attribute
    from preftrace.api import attribute_adapted as attribute_adapted
    from preftrace.api import compare as compare
    from preftrace.api import doctor as doctor
    from preftrace.api import evaluate as evaluate
    from preftrace.api import load_pairs as load_pairs
    from preftrace.api import report as report
    from preftrace.api import run as run
    from preftrace.api import validate as validate
    from preftrace.attribute.fidelity_result import FidelityResult as FidelityResult
    from preftrace.attribute.scores import InfluenceScores as InfluenceScores
    from preftrace.evaluate.compare import Comparison as Comparison
    from preftrace.evaluate.planning import plan as plan
    from preftrace.evaluate.rescoring import rescore as rescore
    from preftrace.evaluate.results import Evaluation as Evaluation
    from preftrace.study.calibrate import calibrate as calibrate
    from preftrace.study.results import Run as Run

__version__ = "0.1.0"

# MKL's own choice of a kernel gives the same product with other last bits from one call to the next, so that a killed
# run would not end as an unbroken one does. A fixed one is about a quarter slower; MKL_CBWR=AUTO brings speed back.
os.environ.setdefault("MKL_CBWR", "AVX2")

_HOME = {
    "preftrace.api": (
        *("adapt", "align", "attribute", "attribute_adapted", "compare", "doctor", "evaluate"),
        *("load_pairs", "report", "run", "validate"),
    ),
    "preftrace.attribute.fidelity_result": ("FidelityResult",),
    "preftrace.attribute.scores": ("InfluenceScores",),
    "preftrace.evaluate.compare": ("Comparison",),
    "preftrace.evaluate.planning": ("plan",),
    "preftrace.evaluate.rescoring": ("rescore",),
    "preftrace.evaluate.results": ("Evaluation",),
    "preftrace.study.calibrate": ("calibrate",),
    "preftrace.study.results": ("Run",),
}
__all__ = [
    "Checkpoint",
    "Item",
    "Message",
    "Pair",
    "StageRecord",
    "UserError",
    *(n for ns in _HOME.values() for n in ns),
]


_ROOMS = ("align", "attribute", "evaluate", "report")
"""Packages that are called by their name as well (`rooms`): the name is the package, whatever was imported before."""


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
