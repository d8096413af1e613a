"""A safety classifier that answers in words: `guard:<Hub id or folder>` or `guard:<Hub id or folder>#assistant`.

The score is the probability of the unsafe verdict, see `models/guard.py` and, for what such models are and miss, arXiv
2605.28830: a guard knows unsafe from safe, so that its numbers are close to 0 or 1 and say little about degrees. The
revision is the content hash of the model's files, or the Hub's commit, and whose words the texts are taken for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from preftrace.models.guard import Guard, Role

VERSION = 1
ROLES = ("user", "assistant")


def problem(argument: str) -> str:
    """What is wrong with the argument: it must name a model, and may say whose words the texts are."""
    model, _, role = argument.partition("#")
    if not model.strip():
        return "guard needs a model: guard:<Hub id or folder>[#user|#assistant]"
    return "" if role in ("", *ROLES) else f"guard takes texts as words of #user or #assistant, not of #{role}"


def build(argument: str) -> GuardScorer:
    """The scorer for a model, and a role after `#`: the texts are taken for words of the user where it says none.

    Raises:
        ModelError: the model cannot be found.
    """
    from preftrace.models.checkpoints import fingerprint

    model, _, role = argument.partition("#")
    role = role or "user"
    revision = f"{fingerprint(model)}#{role} v{VERSION}"
    return GuardScorer(f"guard:{argument}", revision, model, cast("Role", role))


@dataclass(slots=True)
class GuardScorer:
    """A guard that is loaded when it first scores."""

    name: str
    revision: str
    model: str
    role: Role
    loaded: Guard | None = field(default=None, repr=False)

    def score(self, texts: Sequence[str]) -> list[float]:
        """Probabilities of the unsafe verdict, one for each text; NaN where the model states no verdict."""
        from preftrace.models.guard import load_guard

        if self.loaded is None:
            self.loaded = load_guard(self.model, self.role)
        return self.loaded.scores(texts)
