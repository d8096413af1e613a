"""Run a study: pairs -> (evaluate, train)* -> compare -> influence -> report. Every step is skipped where it is done.

Order: the base model is evaluated first, so that the first results are there within minutes; then each stage is
trained and evaluated; the statistics, the influence and the report come last. Each step decides by its own identity
whether it has to be done, so a changed option re-runs exactly what depends on it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from preftrace import artifacts, models, preferences, progress
from preftrace.align import run as train_stage
from preftrace.attribute.influence import run as attribute_stage
from preftrace.engines import Resources
from preftrace.errors import ArtifactError
from preftrace.evaluate import run as evaluate_stage
from preftrace.evaluate.compare import compare_stage
from preftrace.report import write as write_report
from preftrace.study.config import BASE, StudyConfig
from preftrace.study.results import Run
from preftrace.types import SILENT, Checkpoint, StageRecord

RUN = "run.json"
STUDY = "study.yaml"
REPORT = "report.html"


def run_study(study: StudyConfig, out: Path, engine: str = "local") -> Run:
    """Do what a study asks for, or what is left of it.

    Args:
        study: the settings.
        out: the run folder; made if it is not there, resumed if it is a run folder.
        engine: where work runs.

    Raises:
        UserError: bad data, a model that does not load, a folder that cannot be used; what was finished stays.
    """
    claim(out)
    with locked(out):
        open_run(out, study)
        job = _Study(study, out, Resources(study.workers, engine))
        job.everything()
        return Run(out)


@dataclass
class _Study:
    study: StudyConfig
    out: Path
    resources: Resources
    evaluations: dict[str, dict[str, Path]] = field(default_factory=dict)
    checkpoints: dict[str, tuple[Checkpoint, str]] = field(default_factory=dict)
    records: list[StageRecord] = field(default_factory=list)

    def everything(self) -> None:
        study = self.study
        pairs = self._step("pairs", lambda out: preferences.prepare(study.preferences, study.seed, out))
        self.checkpoints[BASE] = (Checkpoint(study.model), models.fingerprint(study.model))
        self._evaluate(BASE)
        for name in study.order():
            self._align(name, pairs)
            if name in study.policies():
                self._evaluate(name)
        self._step("compare", lambda out: compare_stage(self.evaluations, out, study.comparison()))
        for name in study.attributed():
            self._attribute(name)
        self._report()

    def _step(self, name: str, make: Callable[[Path], StageRecord]) -> StageRecord:
        folder = self.out / name
        started = time.monotonic()
        before = artifacts.read_record(folder)
        record = make(folder)
        self.records.append(record)
        if before is None or before.identity != record.identity:
            progress.say(f"{name}: {time.monotonic() - started:.0f} s{_headline(record)}")
        return record

    def _align(self, name: str, pairs: StageRecord) -> None:
        study = self.study
        config = study.stages[name].located({other: self.out / "align" / other for other in study.stages})
        start, digest = self.checkpoints[config.from_]
        inputs = {"pairs": pairs.content, "checkpoint": digest}
        record = self._step(
            f"align/{name}",
            lambda out: train_stage(
                study.kinds[name],
                config,
                start,
                self.out / "pairs",
                study.adapter,
                out,
                format=study.format,
                seed=study.seed,
                inputs=inputs,
                resources=self.resources,
            ),
        )
        # The chain back to the starting model is part of the result: the same adapter on another base is another model.
        self.checkpoints[name] = (
            models.read_checkpoint(record.folder),
            artifacts.hash_json([record.identity, record.content]),
        )

    def _evaluate(self, name: str) -> None:
        study = self.study
        checkpoint, digest = self.checkpoints[name]
        for vertical, config in study.verticals.items():
            make = partial(
                evaluate_stage,
                checkpoint,
                vertical,
                config,
                format=study.format,
                seed=study.seed,
                precision=study.precision,
                backend=study.backend,
                resources=self.resources,
                model_hash=digest,
            )
            record = self._step(f"evaluate/{name}/{vertical}", make)
            self.evaluations.setdefault(name, {})[vertical] = record.folder

    def _attribute(self, name: str) -> None:
        assert self.study.attribute is not None
        config = self.study.attribute.method_config()
        self._step(
            f"attribute/{name}",
            lambda out: attribute_stage(
                self.out / "align" / name,
                self.out / "pairs",
                self.evaluations[name],
                out,
                config,
                before=self.evaluations[self.study.stages[name].from_],
                precision=self.study.precision,
                seed=self.study.seed,
                resources=self.resources,
            ),
        )

    def _report(self) -> None:
        digest = artifacts.hash_json([[r.name, r.identity, r.content] for r in self.records])
        run = artifacts.read_json(self.out / RUN)
        if run.get("report") == digest and (self.out / REPORT).is_file():
            return
        write_report(self.out)
        artifacts.write_json(self.out / RUN, run | {"report": digest})


def _headline(record: StageRecord) -> str:
    """What a finished step found, for the terminal."""
    if record.kind != "evaluate":
        return ""
    summary = record.summary
    metrics = summary["metrics"]
    shown = [("trust", summary["trust"]), *list(metrics.items())[:1]]
    if (metrics.get("empty_rate", {}).get("value") or 0) >= SILENT:
        shown.append(("empty_rate", metrics["empty_rate"]))
    return "; " + ", ".join(f"{name.replace('_', ' ')} {_interval(value)}" for name, value in shown)


def _interval(estimate: Mapping[str, Any]) -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None:
        return "n/a"
    return f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else "")


def claim(out: Path, mark: str = RUN, what: str = "run folder") -> None:
    """Make the folder `out`, or check that it is a run folder, or an empty one.

    Args:
        out: the folder.
        mark: name of the file that only a folder of this sort has.
        what: the sort, in words.

    Raises:
        ArtifactError: `out` holds something else or cannot be written.
    """
    with _writing(out):
        if out.exists() and not out.is_dir():
            raise ArtifactError(f"{out} is a file. Name a folder for the run with --out.")
        # A run that is killed as it begins leaves its lock, and perhaps a file that was being written.
        ours = (".lock", ".tmp")
        strange = out.is_dir() and any(not p.name.startswith(".") or not p.name.endswith(ours) for p in out.iterdir())
        if strange and not (out / mark).is_file():
            raise ArtifactError(f"{out} is not empty and no {what}; nothing was written. Name another with --out.")
        out.mkdir(parents=True, exist_ok=True)


def open_run(out: Path, study: StudyConfig) -> None:
    """Write the study and its circumstances into a claimed and locked folder, where they are not the same already.

    Raises:
        ArtifactError: `out` cannot be written.
    """
    text = study_text(study)
    known = (out / STUDY).is_file() and (out / STUDY).read_text(encoding="utf-8") == text
    with _writing(out):
        for path in out.glob(".*.tmp"):
            path.unlink()
        # The run file comes first: it is what marks the folder as a run's.
        if not known or not (out / RUN).is_file():
            artifacts.write_json(out / RUN, _circumstances(study))
        if not known:
            with artifacts.replacing(out / STUDY) as file:
                file.write(text.encode())


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"cannot write the run folder {out}: {error.strerror}. Name another with --out.") from error


def study_text(study: StudyConfig) -> str:
    """The study as a file that gives it again, every default written out."""
    values = study.model_dump(mode="json")
    for name, config in study.stages.items():
        values["stages"][name] = {"kind": study.kinds[name], **config.model_dump(mode="json", by_alias=True)}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _circumstances(study: StudyConfig) -> dict[str, Any]:
    return {
        "name": study.name,
        "seed": study.seed,
        "versions": artifacts.versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "git": _git_sha(),
    }


def _git_sha() -> str | None:
    """The commit of the checkout that preftrace runs from, if it does."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold a run folder for this process; the system lets go of it when the process ends, however it ends.

    Raises:
        ArtifactError: another process holds it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with _writing(out):
        lock = open(out / ".lock", "a")  # noqa: SIM115
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArtifactError(f"{out} is in use by another preftrace. Wait for it, or use another --out.") from error
        yield
