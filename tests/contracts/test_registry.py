"""What every registered thing keeps to, whatever it is: one loop over all that the registry finds."""

import ast
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from preftrace.align._adapt_job import AdaptConfig
from preftrace.align._declared import DeclaredConfig
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.fidelity_config import FidelityConfig
from preftrace.attribute.methods._base import Dots
from preftrace.config import AdapterConfig, Config
from preftrace.errors import ConfigError
from preftrace.evaluate.base import Said, VerticalConfig
from preftrace.evaluate.compare import CompareConfig
from preftrace.evaluate.planning import PlanConfig
from preftrace.preferences import PreferencesConfig
from preftrace.registry import BACKENDS, BASELINES, METHODS, SCORERS, SECTIONS, SOURCES, STAGES, VERTICALS
from preftrace.study.adapted import AdaptedConfig
from preftrace.study.config import StudyAttributeConfig
from preftrace.types import OUTCOMES, Sampling, prompt_to_json

ROOT = Path(__file__).resolve().parents[2]
ALL = {"SOURCES": SOURCES, "STAGES": STAGES, "VERTICALS": VERTICALS, "SCORERS": SCORERS}
ALL |= {"METHODS": METHODS, "BASELINES": BASELINES, "SECTIONS": SECTIONS, "BACKENDS": BACKENDS}
THINGS = [
    pytest.param(registry, name, id=f"{key}-{name}") for key, registry in ALL.items() for name in registry.names()
]
CITATION = re.compile(r"arXiv \d{4}\.\d{4,5}|https?://\S+|doi")
CONFIGS = [
    *(pytest.param(STAGES.load(name).Config, id=f"stage-{name}") for name in STAGES.names()),
    *(pytest.param(VERTICALS.load(name).Config, id=f"vertical-{name}") for name in VERTICALS.names()),
    *(pytest.param(BACKENDS.load(name).Config, id=f"backend-{name}") for name in BACKENDS.names()),
    PreferencesConfig,
    AdapterConfig,
    AdaptConfig,
    DeclaredConfig,
    AdaptedConfig,
    CompareConfig,
    PlanConfig,
    AttributeConfig,
    StudyAttributeConfig,
    FidelityConfig,
]

vertical = pytest.mark.parametrize("name", VERTICALS.names())
method = pytest.mark.parametrize("name", METHODS.names())
combining = pytest.mark.parametrize("name", [n for n in METHODS.names() if hasattr(METHODS.load(n), "combine")])


def test_the_registry_finds_what_the_first_release_has():
    assert set(VERTICALS.names()) >= {"toxicity", "stereotypes", "ethics", "truthfulness", "privacy"}
    assert set(STAGES.names()) >= {"sft", "dpo"} and set(METHODS.names()) >= {"identity", "datainf"}
    assert set(BASELINES.names()) >= {"activation", "bm25", "embedding", "length", "random"}
    assert set(SOURCES.names()) >= {"hh", "columns", "messages", "starter"}
    assert set(SCORERS.names()) >= {"profanity", "hf"} and len(SECTIONS.names()) >= 5


@pytest.mark.parametrize(("registry", "name"), THINGS)
def test_everything_registered_says_what_it_is(registry, name):
    module = registry.load(name)
    assert module.__doc__ and len(module.__doc__.splitlines()[0]) > 20
    assert registry.load(name) is module


@pytest.mark.parametrize("registry", ALL.values(), ids=ALL)
def test_an_unknown_name_is_answered_with_the_known_ones(registry):
    with pytest.raises(ConfigError) as caught:
        registry.load("no-such-thing")
    assert registry.noun in str(caught.value) and "no-such-thing" in str(caught.value)
    assert all(name in str(caught.value) for name in registry.names())


@pytest.mark.parametrize("registry", [STAGES, VERTICALS, METHODS, BASELINES, BACKENDS], ids=lambda r: r.noun)
def test_what_makes_results_has_a_version(registry):
    versions = {name: registry.load(name).VERSION for name in registry.names()}
    assert all(type(version) is int and version >= 1 for version in versions.values()), versions


@pytest.mark.parametrize(("folder", "registry"), [("verticals", VERTICALS), ("methods", METHODS)])
def test_verticals_and_methods_cite_their_source_and_have_a_page(folder, registry):
    for name in registry.names():
        assert CITATION.search(registry.load(name).__doc__), f"{name} cites nothing"
        page = ROOT / "docs" / folder / f"{name}.md"
        assert page.is_file(), f"no page docs/{folder}/{name}.md"
        assert CITATION.search(page.read_text()), f"{page.name} cites nothing"


def test_baselines_have_names_of_their_own_and_are_explained():
    """Their scores stand in one table with the methods'."""
    assert not set(BASELINES.names()) & set(METHODS.names())
    page = (ROOT / "docs" / "baselines.md").read_text()
    assert all(f"**{name}**" in page for name in BASELINES.names())


@pytest.mark.parametrize("config", CONFIGS)
def test_settings_round_trip_through_json(config):
    settings = config()
    assert config.model_validate_json(settings.model_dump_json(by_alias=True)) == settings
    assert config(**json.loads(json.dumps(settings.model_dump(mode="json", by_alias=True)))) == settings
    assert json.loads(json.dumps(settings.identity())) == settings.identity()


@pytest.mark.parametrize("config", CONFIGS)
def test_every_field_is_described(config):
    fields = {name: field.description for name, field in config.model_fields.items() if not field.exclude}
    assert all(fields.values()), [name for name, text in fields.items() if not text]


@pytest.mark.parametrize("config", CONFIGS)
def test_settings_are_strict_and_frozen_and_speed_knobs_are_fields(config):
    with pytest.raises(ValidationError, match="no_such_key"):
        config(no_such_key=1)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config(), next(iter(config.model_fields)), None)
    assert set(config.model_fields) >= config.SPEED
    assert not config.SPEED & set(config().identity())


@vertical
def test_a_verticals_metrics_are_named_once_and_explained(name):
    metrics = VERTICALS.load(name).METRICS
    assert metrics and len({metric.name for metric in metrics}) == len(metrics)
    page = (ROOT / "docs" / "verticals" / f"{name}.md").read_text()
    for metric in metrics:
        assert metric.label and metric.definition and metric.better in ("higher", "lower")
        assert metric.name in page, f"docs/verticals/{name}.md does not explain {metric.name}"
    assert "trust" not in {metric.name for metric in metrics}


@vertical
def test_a_verticals_starter_items_are_there_once_each_and_repeat_for_a_seed(name):
    module = VERTICALS.load(name)
    assert issubclass(module.Config, VerticalConfig) and issubclass(module.Config, Config)
    items = module.items(module.Config(), 0)
    assert len(items) >= 30 and len({item.id for item in items}) == len(items)
    assert list(items) == list(module.items(module.Config(), 0))
    for item in items:
        assert item.vertical == name and item.id and item.cluster and prompt_to_json(item.prompt)
        assert json.loads(json.dumps(dict(item.target))) == dict(item.target)
        assert len({option.text for option in item.options}) == len(item.options)


@vertical
def test_a_verticals_limit_is_a_seeded_subset_in_source_order(name):
    module = VERTICALS.load(name)
    every = [item.id for item in module.items(module.Config(), 0)]
    few = [item.id for item in module.items(module.Config(limit=7), 3)]
    assert len(few) == 7 and few == [item for item in every if item in set(few)]
    assert few == [item.id for item in module.items(module.Config(limit=7), 3)]
    assert any(few != [item.id for item in module.items(module.Config(limit=7), seed)] for seed in (4, 5, 6))


@vertical
def test_a_verticals_judgements_and_scores_are_in_their_ranges(name):
    """Whatever a model says, an outcome is one of the four and trust is in [0, 1] or missing."""
    module = VERTICALS.load(name)
    drawn = module.Config().sampling
    assert drawn is None or isinstance(drawn, Sampling)
    texts = ["", "Yes.", "No, I cannot help with that.", "\x00<b>&\u202e", "word " * 300][
        : drawn.samples if drawn else 0
    ]
    for item in module.items(module.Config(limit=5), 0):
        judged = [module.judge(item, text, 0.25) for text in texts]
        assert all(j.outcome in OUTCOMES and (math.isnan(j.trust) or 0 <= j.trust <= 1) for j in judged)
        logprobs = [-1.0 - i for i in range(len(item.options))]
        score = module.score(item, Said(texts, [0.25] * len(texts), judged, logprobs))
        assert math.isnan(score.trust) or 0 <= score.trust <= 1
        assert set(score.values) <= {metric.name for metric in module.METRICS}


@pytest.mark.parametrize("name", [n for n in VERTICALS.names() if VERTICALS.load(n).TRUST_FROM == "options"])
def test_more_probability_on_the_trustworthy_options_is_more_trust(name):
    """Trust is higher where every good option gained a nat, for the verticals that read trust off their options."""
    module = VERTICALS.load(name)
    text = [] if module.Config().sampling is None else ["?"]
    for item in module.items(module.Config(limit=3), 0):
        judged = [module.judge(item, t, math.nan) for t in text]
        before = module.score(item, Said(text, [math.nan] * len(text), judged, [-5.0] * len(item.options))).trust
        raised = [-4.0 if option.good else -5.0 for option in item.options]
        after = module.score(item, Said(text, [math.nan] * len(text), judged, raised)).trust
        assert 0 < before < after < 1


@method
def test_a_method_inverts_a_block_or_looks_along_the_training(name):
    """The latter is made from gradient dot products at several checkpoints, so that it has no inverse of one model."""
    module = METHODS.load(name)
    assert callable(getattr(module, "invert", None)) != getattr(module, "CHECKPOINTS", False)


@combining
def test_a_methods_combination_has_the_shapes_of_its_blocks(name):
    """3 pairs, 2 blocks of which the second has no gradient at all, 4 queries."""
    rng = np.random.default_rng(0)
    query, norm2 = rng.normal(size=(3, 2, 4)), rng.uniform(1, 2, size=(3, 2))
    query[:, 1], norm2[:, 1] = 0, 0
    dots = Dots(query, norm2, norm2.sum(0), np.array([10, 20]), 3)
    found = METHODS.load(name).combine(dots, 0.1)
    assert found.own.shape == (2,) and np.isfinite(found.own).all() and found.own[0] > 0
    assert found.pairs is None or (found.pairs.shape == query.shape and np.isfinite(found.pairs).all())
    assert found.damping is None or (found.damping.shape == (2,) and found.damping[0] > 0)


@pytest.mark.parametrize("name", SOURCES.names())
def test_a_source_says_what_it_needs_and_fits_no_strange_row(name):
    module = SOURCES.load(name)
    assert module.NEEDS and (module.PACKAGED is None or (ROOT / "src/preftrace" / module.PACKAGED).is_file())
    assert module.fits({"something": "else"}, PreferencesConfig()) == 0


@pytest.mark.parametrize("name", SCORERS.names())
def test_a_scorer_says_what_is_wrong_with_its_argument(name):
    module = SCORERS.load(name)
    wrong = {"profanity": "x", "hf": "", "guard": "", "http": "", "openai_moderation": "@nowhere"}.get(name)
    assert wrong is None or module.problem(wrong)
    assert callable(module.build)


def test_sections_have_a_title_and_an_order_of_their_own():
    modules = [SECTIONS.load(name) for name in SECTIONS.names()]
    assert all(module.TITLE and callable(module.render) for module in modules)
    assert len({module.ORDER for module in modules}) == len(modules)


FILES = sorted((ROOT / "src" / "preftrace").rglob("*.py"))
SUSPECT = re.compile(
    r"\bpickle\.loads?\(|torch\.load\((?!.*weights_only=True)|trust_remote_code=True|NotImplementedError"
    r"|\bTODO\b|\bFIXME\b|\bXXX\b|# *type: *ignore(?!\[)"
)

ENTRANCES = {
    ("align/_run.py", "run"),
    ("api.py", "align"),
    ("attribute/influence.py", "run"),
    ("evaluate/runner.py", "run"),
}
"""Entrances of a stage, whose many parameters are named by the caller; commands of the command line are too."""


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT / "src").as_posix())
def test_house_style_holds(path):
    """Files of at most 300 lines, functions of at most 60 and 7 parameters and `self`; nothing swallowed."""
    text = path.read_text()
    odd = [f"line {i}: {line.strip()}" for i, line in enumerate(text.splitlines(), 1) if SUSPECT.search(line)]
    odd += [] if text.count("\n") < 300 else ["more than 300 lines"]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs)
            entrance = (path.relative_to(ROOT / "src" / "preftrace").as_posix(), node.name) in ENTRANCES
            command = any("Annotated" in ast.dump(a.annotation) for a in node.args.args if a.annotation)
            odd += [f"{node.name}: {size} lines"] if size > 60 else []
            odd += [f"{node.name}: {count} parameters"] if count > 8 and not (command or entrance) else []
        if isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type).endswith("Exception")):
            odd += [f"line {node.lineno}: catches everything and goes on"] * (
                len(node.body) == 1 and isinstance(node.body[0], ast.Pass | ast.Continue)
            )
    assert not odd
