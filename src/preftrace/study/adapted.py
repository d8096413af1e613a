"""Influence on a model that was tuned elsewhere: base and adapter from `adapt`, loss and pairs as its user names them.

    OUT/adapted.json            what was asked for
    OUT/pairs                   the pairs, checked as in a study
    OUT/align/adapted           what the user says of the training, and which pairs count as trained on
    OUT/evaluate/adapted/*      the verticals of base and adapter; OUT/evaluate/base/* where the query compares
    OUT/attribute/adapted       the scores

Every part decides by its own identity whether it has to be made, as in a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializeAsAny

from preftrace import artifacts, models, preferences, progress
from preftrace.align._declared import DeclaredConfig, declare, open_adapted
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.influence import run as attribute_stage
from preftrace.attribute.trail import needs_checkpoints
from preftrace.errors import ConfigError
from preftrace.evaluate import run as evaluate_stage
from preftrace.evaluate.base import FIVE, VerticalConfig
from preftrace.preferences import PreferencesConfig
from preftrace.study.config import BASE
from preftrace.study.options import read_config, read_verticals
from preftrace.study.run import claim, locked
from preftrace.types import Checkpoint, StageRecord

STAGE = "adapted"
MARK = "adapted.json"


class AdaptedConfig(DeclaredConfig):
    """What a user says of the training, and what is to be done with the model."""

    verticals: dict[str, SerializeAsAny[VerticalConfig]] = Field(default_factory=dict, description="what is evaluated")
    attribute: AttributeConfig = Field(default_factory=AttributeConfig, description="how influence is computed")
    precision: Literal["auto", "float32", "bfloat16", "autocast"] = Field(
        "auto", description="of evaluation and influence: auto is bfloat16 on CUDA and float32 on the CPU"
    )
    seed: int = Field(0, ge=0, description="seed of everything that is drawn")

    @property
    def declared(self) -> DeclaredConfig:
        """What is said of the training alone."""
        return DeclaredConfig(**{name: getattr(self, name) for name in DeclaredConfig.model_fields})


def read_settings(
    options: Mapping[str, Any], verticals: Mapping[str, Mapping[str, Any]] | None = None
) -> AdaptedConfig:
    """Settings from plain values.

    Args:
        options: fields of `AdaptedConfig` and of `AttributeConfig`, side by side.
        verticals: vertical -> its settings; the five on the starter's items where None.

    Raises:
        ConfigError: unknown keys or bad values, or a method that needs what no adapted model has.
    """
    asked = {name: {} for name in FIVE} if verticals is None else verticals
    flat = AdaptedConfig.model_fields.keys() - {"verticals", "attribute"}
    own = {name: value for name, value in options.items() if name in flat}
    attribute = read_config(AttributeConfig, {name: value for name, value in options.items() if name not in own})
    needing = [name for name in attribute.methods if needs_checkpoints(name)]
    if needing:
        raise ConfigError([f"methods: '{needing[0]}' needs checkpoints from the training; an adapted model has none"])
    settings: AdaptedConfig = read_config(
        AdaptedConfig, {**own, "verticals": read_verticals(asked), "attribute": attribute}
    )
    return settings


def score_adapted(folder: Path, pairs: PreferencesConfig, out: Path, config: AdaptedConfig) -> StageRecord:
    """Score every usable pair for every vertical, or what is left to be done of it.

    Args:
        folder: what `adapt` made.
        pairs: the pairs that the model was tuned on, as the user says.
        out: folder of the pairs, the evaluations and the scores.
        config: settings.

    Raises:
        UserError: a folder that is not what it should be, bad pairs, or a model that does not load.
    """
    adapted = open_adapted(folder)
    _warn(adapted)
    claim(out, MARK, "folder of an adapted model's influence")
    with locked(out):
        asked = {"folder": folder, "preferences": pairs.model_dump(mode="json"), **config.model_dump(mode="json")}
        artifacts.write_json(out / MARK, {**asked, "versions": artifacts.versions()})
        data = preferences.prepare(pairs, config.seed, out / "pairs")
        declared = declare(adapted, data, config.declared, out / "align" / STAGE)
        chain = models.read_checkpoint(folder)
        digest = artifacts.hash_json([adapted.identity, adapted.content])
        evaluations = _evaluate(chain, STAGE, digest, out, config)
        before = None
        if config.attribute.looks_back:
            before = _evaluate(Checkpoint(chain.model), BASE, adapted.inputs["base"], out, config)
        return attribute_stage(
            declared.folder,
            data.folder,
            evaluations,
            out / "attribute" / STAGE,
            config.attribute,
            before=before,
            precision=config.precision,
            seed=config.seed,
        )


def _evaluate(checkpoint: Checkpoint, name: str, digest: str, out: Path, config: AdaptedConfig) -> dict[str, Path]:
    """Vertical -> folder of its evaluation."""
    return {
        vertical: evaluate_stage(
            checkpoint,
            vertical,
            settings,
            out / "evaluate" / name / vertical,
            format=config.format,
            seed=config.seed,
            precision=config.precision,
            model_hash=digest,
        ).folder
        for vertical, settings in config.verticals.items()
    }


def _warn(adapted: StageRecord) -> None:
    """Say again what `adapt` warned of: influence is about base and adapter."""
    warnings = adapted.summary["warnings"]
    for warning in warnings:
        progress.say(f"warning: {warning}")
    if warnings:
        own, whole = (f"{adapted.summary[name]:.1%}" for name in ("energy_kept", "kept_of_whole"))
        kept = f"the adapter keeps {own} of the squared change of its matrices, {whole} of all that changed"
        progress.say(f"warning: scores are about base and adapter, not about the tuned model; {kept}")
