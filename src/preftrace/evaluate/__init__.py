"""Checkpoint in, trust per item out: the runner, the verticals, scorers and paired comparison. No torch."""

from preftrace.evaluate.base import configure as configure
from preftrace.evaluate.base import load as load
from preftrace.evaluate.results import Evaluation as Evaluation
from preftrace.evaluate.runner import run as run
from preftrace.rooms import make_callable

make_callable(__name__)
