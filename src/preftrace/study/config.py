"""The study file as settings. Unknown keys and bad values are all reported together, with their place in the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, SerializeAsAny, ValidationError

from preftrace.align import StageConfig
from preftrace.attribute.config import AttributeConfig
from preftrace.config import AdapterConfig, Config, faults
from preftrace.evaluate.backend import BackendConfig
from preftrace.evaluate.backend import configure as configure_backend
from preftrace.evaluate.base import VerticalConfig
from preftrace.evaluate.compare import CompareConfig
from preftrace.preferences import PreferencesConfig
from preftrace.registry import BACKENDS, STAGES, VERTICALS, Registry
from preftrace.study.backend import backend_problems
from preftrace.study.trail import trail_problems

ATTRIBUTABLE = ("sft", "dpo")
"""Kinds of stage that train on the pairs; pairs act on others through a reward stage of the study."""
BASE = "base"
"""The model before any stage."""


class StudyAttributeConfig(AttributeConfig):
    """Which stages influence is computed for, and how."""

    stages: tuple[str, ...] | None = Field(None, description="stages to attribute; none given: all that pairs act on")

    def method_config(self) -> AttributeConfig:
        """The settings of one stage's influence."""
        return AttributeConfig(**self.model_dump(exclude={"stages"}))


class StudyConfig(Config):
    """A study."""

    SPEED: ClassVar[frozenset[str]] = frozenset({"workers"})

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the study's name; runs/<name> by default")
    model: str = Field("starter", min_length=1, description="starter, a Hub id (owner/name[@revision]) or a folder")
    format: Literal["raw", "chat"] = Field("raw", description="prompt format of every stage and every evaluation")
    precision: Literal["auto", "float32", "bfloat16", "autocast"] = Field(
        "auto", description="of evaluation and influence: auto is bfloat16 on CUDA and float32 on the CPU"
    )
    preferences: PreferencesConfig = Field(default_factory=PreferencesConfig, description="the preference pairs")
    adapter: AdapterConfig = Field(default_factory=AdapterConfig, description="what training changes")
    stages: dict[str, SerializeAsAny[StageConfig]] = Field(min_length=1, description="training stages by name")
    kinds: dict[str, str] = Field(default_factory=dict, exclude=True)
    verticals: dict[str, SerializeAsAny[VerticalConfig]] = Field(min_length=1, description="what is evaluated")
    backend: SerializeAsAny[BackendConfig] = Field(
        default_factory=configure_backend, description="what runs the model in evaluation: hf, vllm or openai"
    )
    compare: CompareConfig = Field(default_factory=CompareConfig, description="paired statistics")
    attribute: StudyAttributeConfig | None = Field(
        default_factory=StudyAttributeConfig, description="influence of every pair; null: none"
    )
    seed: int = Field(0, ge=0, description="seed of everything that is drawn")
    workers: int = Field(1, ge=1, description="processes that share the work; results do not depend on it")

    def order(self) -> list[str]:
        """The stages, each after those it needs; otherwise as in the file."""
        done = [BASE]
        left = list(self.stages)
        while left:
            ready = next(name for name in left if set(self.stages[name].needs()) <= set(done))
            done.append(ready)
            left.remove(ready)
        return done[1:]

    def comparison(self) -> CompareConfig:
        """The settings of the comparison; its seed is the study's where it has none of its own."""
        seed = self.compare.seed if "seed" in self.compare.model_fields_set else self.seed
        return self.compare.model_copy(update={"seed": seed})

    def policies(self) -> list[str]:
        """The stages that make a model which answers: all but reward models. They are evaluated and compared."""
        return [name for name in self.order() if makes_policy(self.kinds[name])]

    def attributed(self) -> list[str]:
        """The stages whose influence is computed."""
        if self.attribute is None:
            return []
        asked = self.attribute.stages
        return [s for s in self.policies() if (s in asked if asked is not None else self.traceable(s))]

    def traceable(self, name: str) -> bool:
        """Whether this study's pairs act on a stage, by training it or by training the reward that it maximises."""
        needs = self.stages[name].needs()
        return self.kinds[name] in ATTRIBUTABLE or any(not makes_policy(self.kinds[n]) for n in needs if n != BASE)


def makes_policy(kind: str) -> bool:
    """Whether a kind of stage makes a model that answers, rather than one that scores answers."""
    return bool(STAGES.load(kind).POLICY)


class Problem(NamedTuple):
    """A fault and where it is: the path of keys from the top of the file."""

    path: tuple[str, ...]
    message: str


def build(data: Any) -> tuple[StudyConfig | None, list[Problem]]:
    """A study from plain values, or everything that is wrong with them."""
    if not isinstance(data, Mapping):
        return None, [Problem((), "a study is a mapping of keys such as name, stages and verticals")]
    problems: list[Problem] = []
    values = dict(data)
    stages, kinds = _stages(values.get("stages"), problems)
    verticals = _named(values.get("verticals"), VERTICALS, "verticals", problems)
    if "kinds" in values:
        problems.append(Problem(("kinds",), "unknown key; a stage's kind is said in the stage, as in kind: sft"))
    shallow = {**values, "stages": stages, "verticals": verticals, "kinds": kinds}
    if "backend" in values:
        named = {"name": values["backend"]} if isinstance(values["backend"], str) else values["backend"]
        kind = str(named.get("name", "hf")) if isinstance(named, Mapping) else "hf"
        shallow["backend"] = _one(BACKENDS, kind, named, ("backend",), problems) or configure_backend()
    if not stages:
        shallow.pop("stages")
    if not verticals:
        shallow.pop("verticals")
    study = _validate(StudyConfig, shallow, (), problems)
    problems = [p for p in problems if not _already(p, values)]
    if study is not None and study.adapter.method == "full" and study.attribute is not None:
        words = "influence needs adapter.method lora; write attribute: null to train all weights without it"
        problems.append(Problem(("attribute",), words))
    named = values.get("stages")
    problems += _references(stages, [str(n) for n in named] if isinstance(named, Mapping) else [], values)
    problems += _no_policies(stages, kinds, values)
    if study is not None and not problems:
        problems = [Problem(*each) for each in (*trail_problems(study), *backend_problems(study))]
    return (study, []) if study is not None and not problems else (None, problems)


def _already(problem: Problem, values: Mapping[str, Any]) -> bool:
    """A section whose own faults are listed is not also missing."""
    return problem.path in (("stages",), ("verticals",)) and bool(values.get(problem.path[0]))


def _stages(section: Any, problems: list[Problem]) -> tuple[dict[str, StageConfig], dict[str, str]]:
    found: dict[str, StageConfig] = {}
    kinds: dict[str, str] = {}
    if section is not None and not isinstance(section, Mapping):
        problems.append(Problem(("stages",), "must map a stage's name to its settings, such as sft: {epochs: 1}"))
        return found, kinds
    for name, options in (section or {}).items():
        if name == BASE or not str(name).replace("-", "").replace("_", "").isalnum():
            problems.append(
                Problem(("stages", str(name)), "is no stage's name: use letters, digits, - and _; not base")
            )
            continue
        options = dict(options) if isinstance(options, Mapping) else options
        kind = options.pop("kind", name) if isinstance(options, dict) else name
        config = _one(STAGES, kind, options, ("stages", name), problems)
        if isinstance(config, StageConfig):
            found[name], kinds[name] = config, kind
    return found, kinds


def _named(section: Any, registry: Registry, key: str, problems: list[Problem]) -> dict[str, Any]:
    if section is not None and not isinstance(section, Mapping):
        problems.append(Problem((key,), f"must map a {registry.noun}'s name to its settings, or to nothing"))
        return {}
    found = {str(n): _one(registry, n, options, (key, str(n)), problems) for n, options in (section or {}).items()}
    return {name: config for name, config in found.items() if config is not None}


def _one(registry: Registry, kind: Any, options: Any, path: tuple[str, ...], problems: list[Problem]) -> Any:
    if kind not in registry.names():
        problems.append(Problem(path, f"unknown {registry.noun} '{kind}'; known: {', '.join(registry.names())}"))
        return None
    if options is not None and not isinstance(options, Mapping):
        problems.append(Problem(path, f"must be a mapping of settings, not {options!r}"))
        return None
    return _validate(registry.load(kind).Config, options or {}, path, problems)


def _validate(model: type[Any], values: Mapping[str, Any], path: tuple[str, ...], problems: list[Problem]) -> Any:
    try:
        return model(**{str(k): v for k, v in values.items()})
    except ValidationError as error:
        problems += [Problem(path + fault.where, fault.message) for fault in faults(error, model)]
        return None


def _no_policies(
    stages: Mapping[str, StageConfig], kinds: Mapping[str, str], values: Mapping[str, Any]
) -> list[Problem]:
    """Stages that take a reward model for a policy or the reverse, and influence where it is not defined."""
    scoring = {name for name, kind in kinds.items() if not makes_policy(kind)}
    attribute = values.get("attribute")
    asked = attribute.get("stages") if isinstance(attribute, Mapping) else None
    return (
        [
            Problem(
                ("stages", name, "from"), f"'{config.from_}' is a reward model, which gives no answers; name a policy"
            )
            for name, config in stages.items()
            if config.from_ in scoring
        ]
        + [
            Problem(("stages", name, "reward"), f"'{need}' is a policy, not a reward stage")
            for name, config in stages.items()
            for need in config.needs()[1:]
            if need in kinds and need not in scoring
        ]
        + [
            Problem(("attribute", "stages"), f"'{name}' is a reward model: it is evaluated on no vertical")
            for name in (asked if isinstance(asked, list) else [])
            if name in scoring
        ]
        + [
            Problem(("attribute", "stages"), f"'{name}' has no reward stage: no pairs act on it")
            for name in (asked if isinstance(asked, list) else [])
            if name in stages and kinds[name] not in (*ATTRIBUTABLE, *scoring) and _by_others(stages[name])
        ]
    )


def _by_others(config: StageConfig) -> bool:
    """Whether a stage maximises a reward that no reward stage has learned."""
    return str(getattr(config, "reward", "")).partition(":")[0] not in ("", "stage") and len(config.needs()) == 1


def _references(stages: Mapping[str, StageConfig], names: Sequence[str], values: Mapping[str, Any]) -> list[Problem]:
    """Stages that start from nothing there is, in a circle, or are to be attributed and do not exist.

    Args:
        stages: the stages without faults of their own.
        names: all stages in the file: one with a fault is still one to start from.
        values: the whole file.
    """
    known = ", ".join([BASE, *(name for name in names if name != BASE)])
    problems = [
        Problem(
            ("stages", name, "from" if need == config.from_ else "reward"), f"'{need}' is not a stage; known: {known}"
        )
        for name, config in stages.items()
        for need in config.needs()
        if need != BASE and need not in names
    ]
    for name in stages:
        seen: set[str] = set()
        ahead = list(stages[name].needs())
        while ahead:
            at = ahead.pop()
            if at in stages and at not in seen:
                seen.add(at)
                ahead += stages[at].needs()
        if name in seen:
            problems.append(Problem(("stages", name, "from"), "starts from itself, through the stages it names"))
    attribute = values.get("attribute")
    asked = attribute.get("stages") if isinstance(attribute, Mapping) else None
    listed: Sequence[Any] = asked if isinstance(asked, list) else []
    return problems + [
        Problem(("attribute", "stages"), f"'{name}' is not a stage; known: {known}")
        for name in listed
        if name not in names
    ]
