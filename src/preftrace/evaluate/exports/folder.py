"""The folder that lm-eval reads tasks from: it is installed with the package, and can be copied."""

from __future__ import annotations

import shutil
from pathlib import Path

from preftrace.errors import ArtifactError

HERE = Path(__file__).parent / "lm_eval"
SUFFIXES = (".yaml", ".py")


def lm_eval_folder(out: Path | None = None) -> Path:
    """Where the task files are: the installed folder, or `out` after they are copied there.

    Raises:
        ArtifactError: `out` holds other files, or cannot be written.
    """
    if out is None:
        return HERE
    files = sorted(path for path in HERE.iterdir() if path.suffix in SUFFIXES)
    try:
        others = {path.name for path in out.iterdir()} - {path.name for path in files} if out.exists() else set()
        if others - {"__pycache__"}:
            raise ArtifactError(f"{out} holds other files; nothing was written. Name another folder with --out.")
        out.mkdir(parents=True, exist_ok=True)
        for path in files:
            shutil.copyfile(path, out / path.name)
    except OSError as error:
        raise ArtifactError(f"{out} cannot be written: {error.strerror}. Name another folder with --out.") from error
    return out.resolve()
