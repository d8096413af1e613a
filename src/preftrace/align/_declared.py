"""A training that nobody recorded: its model is there, and a user says what it minimised, and on which pairs.

What is written is a finished stage as far as influence reads one: the checkpoint, the settings of the loss, and the
pairs that count as trained on, which are all that the loss can use.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from preftrace import artifacts, models
from preftrace.align._rows import count_reasons, encode_pair, token_table
from preftrace.config import Config
from preftrace.errors import ArtifactError, ConfigError, DataError
from preftrace.preferences import load_pairs
from preftrace.types import DECLARED, StageRecord

VERSION = 1
LOSSES = ("sft", "dpo")
"""Losses of models that answer; no adapter of a reward model is made from two whole ones."""
BETA = 0.1


class DeclaredConfig(Config):
    """What a user says of a training."""

    loss: str = Field("dpo", description="what it minimised: sft or dpo, as the stages of those names do")
    beta: float | None = Field(None, gt=0, description="dpo's hold to the reference, which is the base (0.1)")
    max_length: int = Field(1024, ge=8, description="most tokens of prompt and answer; prompts are cut from the left")
    format: Literal["raw", "chat"] = Field("raw", description="prompt format of the training, and of the evaluation")

    @field_validator("loss")
    @classmethod
    def _of_a_policy(cls, loss: str) -> str:
        if loss == "reward":
            raise ValueError("`preftrace adapt` makes no adapter of a reward model, so that no loss of one is scored")
        if loss not in LOSSES:
            raise ValueError(f"unknown loss '{loss}'; known: {', '.join(LOSSES)}")
        return loss

    @model_validator(mode="after")
    def _beta_is_dpos(self) -> Self:
        if self.loss == "sft" and self.beta is not None:
            raise ValueError("beta belongs to dpo, and the loss is sft")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """What the loss of a pair depends on, as a stage's record has it."""
        beta = {"beta": BETA if self.beta is None else self.beta} if self.loss == "dpo" else {}
        return {"max_length": self.max_length, **beta}


def open_adapted(folder: Path) -> StageRecord:
    """The record of a folder that `adapt` made.

    Raises:
        ArtifactError: it is none, or its base is no longer the model that it was made of.
        ModelError: the base or the adapter is gone.
    """
    record = artifacts.read_record(folder)
    if record is None or record.kind != "adapt":
        what = "no finished stage" if record is None else f"a stage '{record.kind}'"
        raise ArtifactError(
            f"{folder} is {what}: name a folder that `preftrace adapt` made. "
            "Stages of a run are scored by `preftrace attribute RUN STAGE`."
        )
    base = models.read_checkpoint(folder).model
    if models.fingerprint(base) != record.inputs["base"]:
        raise ArtifactError(f"{base} is not what it was when {folder} was made of it; run `preftrace adapt` again.")
    return record


def declare(adapted: StageRecord, pairs: StageRecord, config: DeclaredConfig, out: Path) -> StageRecord:
    """Write down at `out` what a user says of the training of an adapted model, or return it where it is there.

    Args:
        adapted: what `adapt` made.
        pairs: the pairs stage; all pairs of its training split that fit into `max_length` count as trained on.
        config: what is said.
        out: the stage's folder.

    Raises:
        ConfigError: `max_length` is more than the model has positions for.
        DataError: no pair can be used.
    """
    checkpoint = models.read_checkpoint(adapted.folder)
    # The adapter stays where it is, so that its place is part of what is written.
    place = {"adapted": adapted.folder.resolve().as_posix()}
    settings = {"loss": config.loss, "stage": config.settings, "format": config.format, **place}
    inputs = {"adapted": artifacts.hash_json([adapted.identity, adapted.content]), "pairs": pairs.content}
    spec = artifacts.StageSpec(DECLARED, f"align/{out.name}", VERSION, settings, inputs)

    def make(work: Path) -> Mapping[str, Any]:
        counts = _write_tokens(checkpoint.model, pairs.folder, config, work)
        models.write_checkpoint(work, checkpoint, out)
        told = {name: adapted.summary[name] for name in ("energy_kept", "check", "warnings")}
        return {**counts, "declared": {"by_user": ["loss", "pairs"], **place, **told}}

    return artifacts.run_stage(out, spec, make)


def _write_tokens(model: str, pairs: Path, config: DeclaredConfig, work: Path) -> dict[str, Any]:
    """Write `tokens.parquet`, which says of every pair whether it counts; how many do, and why the others do not."""
    most = models.most_positions(model)
    if most is not None and config.max_length > most:
        raise ConfigError([f"max_length: {config.max_length} is more than the {most} positions that the model has"])
    tokenizer, both = models.load_tokenizer(model, config.format), config.loss != "sft"
    rows = [encode_pair(tokenizer, pair, config.format, config.max_length, both) for pair in load_pairs(pairs, "train")]
    used, unused = [row for row in rows if not row.reason], count_reasons(rows)
    if not used:
        raise DataError(f"no pair can be used ({unused}). Raise max_length ({config.max_length}).")
    artifacts.write_table(work / "tokens.parquet", token_table(rows))
    truncated = sum(row.truncated for row in used)
    return {"pairs_used": len(used), "pairs_unused": unused, "truncated": truncated}
