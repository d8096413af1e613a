"""Faults between a study's sections: checkpoints that a method needs and no stage keeps, or that cannot be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from preftrace.align import PairConfig
from preftrace.attribute.trail import needs_checkpoints

if TYPE_CHECKING:
    from preftrace.study.config import StudyConfig

SETTING = "keep_checkpoints"


def trail_problems(study: StudyConfig) -> list[tuple[tuple[str, ...], str]]:
    """Place and message of each fault.

    Args:
        study: one without other faults.
    """
    trained = {name: config for name, config in study.stages.items() if isinstance(config, PairConfig)}
    found = {name: wrong for name, config in trained.items() if (wrong := config.cannot_keep(study.adapter))}
    methods = study.attribute.methods if study.attribute else ()
    for method in filter(needs_checkpoints, methods):
        sources = {source for name in study.attributed() for source in (name, *study.stages[name].needs()[1:])}
        lacking = [name for name in trained if name in sources and not trained[name].keep_checkpoints]
        found |= dict.fromkeys(lacking, f"the method '{method}' needs checkpoints: set it, to 4 for example")
    return [(("stages", name, SETTING), words) for name, words in found.items()]
