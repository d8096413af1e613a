"""Profanity score by alt-profanity-check: a linear model over character n-grams, calibrated to [0, 1].

The embedded default: it needs no download and runs at thousands of texts a second on a CPU. It knows words, not
meaning: quoting an insult scores like making one, and a polite threat scores low. Its model is a joblib file that
ships inside the package itself; no file that a user names is unpickled. https://pypi.org/project/alt-profanity-check/
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

PACKAGE = "alt-profanity-check"


def problem(argument: str) -> str:
    """What is wrong with the argument: there must be none."""
    return f"profanity takes no argument, and got '{argument}'" if argument else ""


def build(argument: str) -> Profanity:
    """The scorer; `argument` is empty."""
    return Profanity(name="profanity", revision=f"{PACKAGE} {metadata.version(PACKAGE)}")


@dataclass(frozen=True, slots=True)
class Profanity:
    """Probability that a text is offensive or profane."""

    name: str
    revision: str

    def score(self, texts: Sequence[str]) -> list[float]:
        """Probabilities, one for each text."""
        if not texts:
            return []
        with warnings.catch_warnings():
            # The shipped model was fitted by an older scikit-learn; its coefficients are read unchanged.
            warnings.filterwarnings("ignore", message="Trying to unpickle estimator", category=UserWarning)
            from profanity_check import predict_prob

            return [min(max(float(value), 0.0), 1.0) for value in predict_prob(list(texts))]
