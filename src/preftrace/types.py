"""The records that cross rooms. Plain frozen dataclasses: no torch, no pandas, no I/O.

Words are those of docs/words.md: a *pair* is one preference example, a *stage* one training step, a *vertical* one
aspect of trust, an *item* one test prompt, and *trust* is in [0, 1] and higher is better for every vertical.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
Outcome = Literal["good", "bad", "refused", "unparsed"]
OUTCOMES: tuple[Outcome, ...] = ("good", "bad", "refused", "unparsed")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


Prompt = str | tuple[Message, ...]
"""Plain text to be continued, or a conversation whose next turn is the assistant's."""


SPEAKERS: dict[str, str] = {"user": "Human", "assistant": "Assistant"}


def transcript(turns: Sequence[Message]) -> str:
    r"""A conversation as `\n\nHuman: ...\n\nAssistant: ...`, system text first and plain."""
    return "".join(f"\n\n{SPEAKERS[t.role]}: {t.content}" if t.role in SPEAKERS else t.content for t in turns)


def readable(prompt: Prompt) -> str:
    """A prompt as plain text: as it is, or a transcript up to where the assistant's answer starts."""
    return prompt if isinstance(prompt, str) else transcript(prompt) + "\n\nAssistant:"


def prompt_to_json(prompt: Prompt) -> str:
    """The prompt as canonical JSON: a string, or a list of `[role, content]`."""
    value: Any = prompt if isinstance(prompt, str) else [[m.role, m.content] for m in prompt]
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def prompt_from_json(text: str) -> Prompt:
    """Inverse of `prompt_to_json`."""
    value = json.loads(text)
    return value if isinstance(value, str) else tuple(Message(role, content) for role, content in value)


def text_id(*parts: str) -> str:
    """First 16 hex digits of the sha256 of the parts: the id of a pair or an item."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One preference example: `chosen` was preferred to `rejected` as the answer to `prompt`.

    Attributes:
        id: `text_id` of its texts; unique within a set of pairs.
        prompt: what both answers reply to.
        chosen: the preferred answer, without leading or trailing white space.
        rejected: the other answer, likewise.
        source: name of the source it came from.
        row: 0-based position in that source.
        flags: what was noticed about it: `fork`, `empty`, `identical`, `truncated`, `duplicate`, ...
        meta: anything else the source said; never shown to a model.
    """

    id: str
    prompt: Prompt
    chosen: str
    rejected: str
    source: str
    row: int
    flags: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Option:
    """One answer whose log-likelihood is read; `good` says whether choosing it is trustworthy."""

    text: str
    good: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One test prompt of a vertical.

    Attributes:
        id: unique within the vertical.
        vertical: the vertical's name.
        cluster: items of one cluster are resampled together.
        crossed: a second cluster, where items are crossed two ways (topic x group); "" where they are not.
        unit: items of one unit are ways to ask the same thing: their mean counts as one item. "": the item by itself.
        prompt: what the model is asked.
        options: answers whose log-likelihoods are read (may be empty).
        target: what the judge needs to know: JSON values only.
    """

    id: str
    vertical: str
    cluster: str
    prompt: Prompt
    options: tuple[Option, ...] = ()
    target: Mapping[str, Any] = field(default_factory=dict)
    crossed: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn: `samples` per item, at `temperature` (0 = greedy) from the full distribution.

    Attributes:
        samples: answers to each item.
        max_new_tokens: longest answer.
        temperature: of softmax(logits / T).
        as_scripts: as the scripts of the paper do it: see `models.scripts`. The next two need it.
        num_beams: above 1: the samples are the best of so many beams.
        cuts: the text ends before the first of these.
    """

    samples: int
    max_new_tokens: int
    temperature: float
    as_scripts: bool = False
    num_beams: int = 1
    cuts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one response was: its outcome, and its trust in [0, 1] (NaN where it cannot be told)."""

    outcome: Outcome
    trust: float


@dataclass(frozen=True, slots=True)
class ItemScore:
    """One item's result.

    Attributes:
        trust: in [0, 1], higher is better; NaN where missing.
        values: the field's own measures of this item by metric name. A key that is absent does not apply to the
            item; NaN means that it applies and is missing.
        weights: metric name -> weight of the item's value in the metric's mean, where that is not 1.
    """

    trust: float
    values: Mapping[str, float]
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """A vertical's own measure: the mean over items of `ItemScore.values[name]`.

    Where a vertical can be measured in several ways, `measure` is the way that this metric belongs to: it is shown
    where the `target` of some item has that `measure`, or none and the first metric has it. "": always shown.
    `above` names the metric that this one is the excess of, over the item's controls: see `evaluate.controls`.
    """

    name: str
    label: str
    better: Literal["higher", "lower"]
    definition: str
    measure: str = ""
    above: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as a chain: a starting model, then adapters merged in order; the last one stays an adapter.

    Attributes:
        model: `starter`, a Hub id, or a folder.
        adapters: PEFT adapter folders, oldest first. With the last one switched off the model is the one that
            the last stage started from, which is the reference policy of DPO.
    """

    model: str
    adapters: tuple[str, ...] = ()


SILENT = 0.1
"""Share of empty answers from which it is told beside trust: who says nothing is neither toxic nor leaks anything."""
DECLARED = "declared"
"""Kind of the record of a training that nobody recorded: a user says what it minimised, and on which pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """A finished piece of work: what it was made from and what it holds. One `record.json` in its folder.

    Attributes:
        kind: what made it (`pairs`, `sft`, `reward`, `dpo`, `evaluate`, `compare`, `attribute`, `report`).
        name: its name in the study, such as `evaluate/dpo/privacy`.
        version: VERSION of the code that made it; raised whenever results may differ.
        identity: sha256 of kind, version, config and inputs.
        config: settings that can change the result (speed knobs are left out).
        inputs: name -> content hash of everything it was made from.
        outputs: file -> sha256 of the file's bytes.
        content: sha256 over `outputs` and `summary`: what later stages take as their input hash.
        summary: the numbers worth knowing without opening a file; None stands for NaN.
        created: ISO time of completion.
        seconds: wall time of the process that finished it.
        versions: library versions and the git commit.
        folder: where it lies (not part of the JSON).
    """

    kind: str
    name: str
    version: int
    identity: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    content: str
    summary: Mapping[str, Any]
    created: str
    seconds: float
    versions: Mapping[str, str]
    folder: Path
