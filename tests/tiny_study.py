"""A whole study on a tiny model in seconds: its file, and what a run folder holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

STUDY = """\
name: tiny
model: {model}
preferences: {{source: starter, limit: 12}}
adapter: {{r: 2, alpha: 4}}
stages:
  sft: {{epochs: 1, batch_size: 4, learning_rate: 0.01, save_steps: 1}}
  dpo: {{from: sft, beta: 0.1, epochs: 1, batch_size: 4, learning_rate: 0.01, save_steps: 1}}
verticals:
  toxicity: {{limit: 3, samples: 2, max_new_tokens: 6, batch_size: 2}}
  stereotypes: {{limit: 3, max_new_tokens: 6, batch_size: 2}}
  ethics: {{limit: 4, max_new_tokens: 6, batch_size: 2}}
  truthfulness: {{limit: 3, batch_size: 2}}
  privacy: {{limit: 3, samples: 2, max_new_tokens: 6, batch_size: 2}}
compare: {{resamples: 200}}
attribute: {{methods: [identity, datainf]}}
seed: 0
"""
VERTICALS = ("toxicity", "stereotypes", "ethics", "truthfulness", "privacy")


def write_study(folder: Path, model: Path | str) -> Path:
    """The study file of a tiny model, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.yaml"
    path.write_text(STUDY.format(model=model), encoding="utf-8")
    return path


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    """File -> when it was last changed, and the hash of its bytes."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
