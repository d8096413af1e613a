r"""Two conversations that share a beginning, split into a prompt and two answers.

The split is by *turns*: the prompt is the longest common turn prefix that is followed by an assistant's turn in both,
and an answer is that one turn. A split by characters (the last `\n\nAssistant:` of one text, or the longest common
character prefix) puts the words that both answers begin with into the prompt, or cuts into the wrong turn where the
conversations part earlier.
"""

from __future__ import annotations

from collections.abc import Sequence

from preftrace.preferences.rows import Draft
from preftrace.types import Message, transcript


def split(chosen: Sequence[Message], rejected: Sequence[Message]) -> Draft:
    """Split two conversations at the turn where they part.

    Flags `fork` where a conversation goes on after the answer, so that what was preferred may not be the answer, and
    `malformed` where one ends on another turn than an assistant's or no answer to the same prompt can be found (then
    the prompt is what they share and the answers are all that follows, for a reader to look at).
    """
    shared = common(chosen, rejected)
    position = next((k for k in range(shared, -1, -1) if _answers(chosen, k) and _answers(rejected, k)), None)
    if position is None or not any(turn.role == "user" for turn in chosen[:position]):
        return Draft(tuple(chosen[:shared]), transcript(chosen[shared:]), transcript(rejected[shared:]), ("malformed",))
    flags = []
    if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        flags.append("malformed")
    if max(len(chosen), len(rejected)) > position + 1:
        flags.append("fork")
    return Draft(tuple(chosen[:position]), chosen[position].content, rejected[position].content, tuple(flags))


def common(a: Sequence[Message], b: Sequence[Message]) -> int:
    """How many turns two conversations share before they part."""
    return next((k for k, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b)))


def _answers(turns: Sequence[Message], k: int) -> bool:
    return k < len(turns) and turns[k].role == "assistant"
