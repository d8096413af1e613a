"""Pairs as tokens: which are used, how long they are, and why the others are not used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from preftrace import artifacts, models
from preftrace.align._job import Job
from preftrace.errors import ConfigError, DataError
from preftrace.types import Pair

if TYPE_CHECKING:
    import pyarrow as pa

TOO_LONG = "{} answer too long"


class Row(NamedTuple):
    """A pair's two answers after one and the same prompt, as token ids."""

    pair_id: str
    chosen: models.Encoded
    rejected: models.Encoded
    reason: str
    """Why it is not used; empty if it is."""

    @property
    def truncated(self) -> bool:
        """Whether the prompt was cut."""
        return self.chosen.truncated


class Rows(NamedTuple):
    """The rows that are used, of both splits, and the counts of the training split."""

    train: list[Row]
    holdout: list[Row]
    unused: dict[str, int]
    unused_holdout: int
    truncated: int

    def counts(self) -> dict[str, Any]:
        """What the stage's record says of the training split."""
        return {"pairs_used": len(self.train), "pairs_unused": self.unused, "truncated": self.truncated}

    def held_out(self, **measures: Any) -> dict[str, Any]:
        """What it says of the held-out pairs."""
        return {"n": len(self.holdout), "unused": self.unused_holdout, **measures}


def encode_pair(tokenizer: Any, pair: Pair, format: str, max_length: int, both: bool = True) -> Row:
    """Tokens of one pair. The prompt is cut from the left until every answer that counts fits behind it.

    Args:
        tokenizer: a transformers tokenizer.
        pair: the pair.
        format: prompt format.
        max_length: most tokens of prompt and answer.
        both: the rejected answer counts too (False for SFT, which only sees the chosen one).
    """
    answers = {"chosen": pair.chosen, "rejected": pair.rejected} if both else {"chosen": pair.chosen}
    rows = models.encode_answers(tokenizer, pair.prompt, [*answers.values()], format, max_length)
    sizes = [len(row.prompt_ids) + len(row.answer_ids) for row in rows]
    over = [name for name, size in zip(answers, sizes, strict=True) if size > max_length]
    chosen = rows[0]
    other = rows[1] if both else models.encode(tokenizer, pair.prompt, pair.rejected, format)
    rejected = other._replace(prompt_ids=chosen.prompt_ids, truncated=chosen.truncated)
    return Row(pair.id, chosen, rejected, TOO_LONG.format(over[0]) if over else "")


def prepare(job: Job, lm: models.LanguageModel, both: bool = True) -> Rows:
    """Encode a stage's pairs and write `tokens.parquet`, one row for every pair of the training split.

    Raises:
        ConfigError: `max_length` is more than the model has positions for.
        DataError: no pair of the training split can be used.
    """
    from preftrace.preferences.stage import load_pairs

    most = lm.model.config.to_dict().get("max_position_embeddings")
    length = job.config.max_length
    if most is not None and length > most:
        raise ConfigError([f"max_length: {length} is more than the {most} positions that the model has"], job.kind)
    train, holdout = (
        [encode_pair(lm.tokenizer, pair, job.format, length, both) for pair in load_pairs(job.pairs, split)]
        for split in ("train", "holdout")
    )
    artifacts.write_table(job.work / "tokens.parquet", token_table(train))
    used = [row for row in train if not row.reason]
    if not used:
        why = dict(Counter(row.reason for row in train)) or "there is none"
        raise DataError(f"{job.kind}: no pair in {job.pairs} can be used ({why}). Raise max_length ({length}).")
    held = [row for row in holdout if not row.reason]
    return Rows(used, held, count_reasons(train), len(holdout) - len(held), sum(row.truncated for row in used))


def count_reasons(rows: Sequence[Row]) -> dict[str, int]:
    """Reason -> how many rows are not used because of it."""
    return dict(sorted(Counter(row.reason for row in rows if row.reason).items()))


def token_table(rows: Sequence[Row]) -> pa.Table:
    """`tokens.parquet`: a row for each pair, with its lengths and whether it is used."""
    import pyarrow as pa

    columns = {
        "pair_id": pa.array([r.pair_id for r in rows], pa.string()),
        "prompt_tokens": pa.array([len(r.chosen.prompt_ids) for r in rows], pa.int32()),
        "chosen_tokens": pa.array([len(r.chosen.answer_ids) for r in rows], pa.int32()),
        "rejected_tokens": pa.array([len(r.rejected.answer_ids) for r in rows], pa.int32()),
        "truncated": pa.array([r.truncated for r in rows], pa.bool_()),
        "used": pa.array([not r.reason for r in rows], pa.bool_()),
        "reason": pa.array([r.reason for r in rows], pa.string()),
    }
    return pa.table(columns)
