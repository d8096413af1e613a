"""Settings of fidelity. Imports no torch."""

from __future__ import annotations

from pydantic import Field, field_validator

from preftrace.config import Config


class FidelityConfig(Config):
    """How the scores of pairs are held against training again."""

    subsets: int = Field(
        50, ge=0, description="random subsets that the stage is trained on again; 0: no linear datamodeling score"
    )
    fraction: float = Field(0.5, gt=0, lt=1, description="share of the pairs in a subset")
    remove: float = Field(
        0.1, ge=0, description="pairs that a group leaves out: a share below 1, or a count; 0: no groups"
    )
    controls: int = Field(5, ge=2, description="random groups, matched in length, that a group is held against")
    removal_methods: tuple[str, ...] | None = Field(
        None, description="methods and baselines whose groups are left out (the last of the influence's methods)"
    )
    metric: bool = Field(False, description="also evaluate the verticals at every model that is trained again")
    resamples: int = Field(2000, ge=100, description="bootstrap resamples of the intervals")
    seed: int = Field(0, ge=0, description="of the subsets, the groups and the intervals; training keeps its own")

    @field_validator("subsets")
    @classmethod
    def _ranks(cls, subsets: int) -> int:
        if subsets in (1, 2):
            raise ValueError("two subsets have no rank agreement to speak of: take 0, or 3 and more")
        return subsets

    @field_validator("remove")
    @classmethod
    def _share_or_count(cls, remove: float) -> float:
        if remove >= 1 and remove != int(remove):
            raise ValueError("a count of pairs is a whole number; below 1 it is a share")
        return remove

    def removed(self, pairs: int) -> int:
        """How many of `pairs` a group leaves out."""
        return int(self.remove) if self.remove >= 1 else round(self.remove * pairs)
