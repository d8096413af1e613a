"""Any transformers text classifier: `hf:<Hub id or folder>` or `hf:<Hub id or folder>#<label>`.

The score is the probability of the label that names what is bad (toxic, hate, offensive, ...), or of the label given.
The revision is the content hash of the model's files, or the Hub's commit, and the label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from preftrace.models.classify import Classifier


def problem(argument: str) -> str:
    """What is wrong with the argument: it must name a model."""
    return "" if argument.partition("#")[0].strip() else "hf needs a model: hf:<Hub id or folder>[#label]"


def build(argument: str) -> HubClassifier:
    """The scorer for a model, and a label after `#`.

    Raises:
        ModelError: the model cannot be found.
    """
    from preftrace.models.checkpoints import fingerprint

    model, _, label = argument.partition("#")
    revision = fingerprint(model) + (f"#{label}" if label else "")
    return HubClassifier(name=f"hf:{argument}", revision=revision, model=model, label=label)


@dataclass(slots=True)
class HubClassifier:
    """A classifier that is loaded when it first scores."""

    name: str
    revision: str
    model: str
    label: str
    loaded: Classifier | None = field(default=None, repr=False)

    def score(self, texts: Sequence[str]) -> list[float]:
        """Probabilities of the bad label, one for each text."""
        from preftrace.models.classify import load_classifier

        if self.loaded is None:
            self.loaded = load_classifier(self.model, self.label)
        return self.loaded.scores(texts)
