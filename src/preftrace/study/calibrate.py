"""Hold a scorer against scores that a file has already, and write the page that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from preftrace.config import faults
from preftrace.errors import ConfigError
from preftrace.evaluate.calibration import CalibrationConfig
from preftrace.evaluate.calibration import calibrate as calibrate_stage
from preftrace.report import scorer as page
from preftrace.types import StageRecord


def calibrate(scorer: str, items: str | Path | Sequence[str | Path], out: str | Path, **options: Any) -> StageRecord:
    """How well a scorer agrees with the scores of a file, such as RealToxicityPrompts' Perspective scores.

    Args:
        scorer: its spec, such as `profanity` or `hf:MODEL`.
        items: one or more files of RealToxicityPrompts rows, or of rows with a `text` and the score.
        out: folder of the result; `calibration.html` in it is the page.
        options: fields of `CalibrationConfig`, such as `part` and `attribute`.
    """
    files = [Path(items)] if isinstance(items, str | Path) else [Path(each) for each in items]
    try:
        config = CalibrationConfig(**options)
    except ValidationError as error:
        raise ConfigError(list(map(str, faults(error, CalibrationConfig)))) from error
    record = calibrate_stage(scorer, files, Path(out), config)
    page.write(record.folder)
    return record
