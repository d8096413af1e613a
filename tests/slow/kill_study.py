"""Kill a study with SIGKILL at random moments, run it again each time, and compare with a run that nobody killed.

    python tests/slow/kill_study.py --study study.yaml --kills 10      # or --study starter

Prints a line for each kill and ends with exit code 1 if a resumed run differs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import preftrace
from preftrace.artifacts import RECORD, hash_file, hash_json

OF_THE_CLOCK = ("created", "seconds")
NOT_COMPARED = {"run.json", "report.html", ".lock", RECORD}
"""Circumstances and what shows them; records are compared field by field."""


class Kill(NamedTuple):
    """One killed and resumed run.

    Attributes:
        at: seconds after the start.
        finished: records that were complete at the kill.
        begun: steps that had a partial folder at the kill.
        ended: the run ended by itself before the kill.
        resumed: seconds that the second run took.
        differences: what is not as in the uninterrupted run.
    """

    at: float
    finished: int
    begun: tuple[str, ...]
    ended: bool
    resumed: float
    differences: tuple[str, ...]


def start(study: str, out: Path) -> subprocess.Popen[bytes]:
    """Start `preftrace run` in a process of its own; its output goes to a log beside the run folder."""
    named = [] if study == "starter" else [study]
    with open(out.with_suffix(".log"), "ab") as log:
        words = [sys.executable, "-m", "preftrace", "run", *named, "--out", str(out)]
        return subprocess.Popen(words, stdout=log, stderr=log)


def finish(study: str, out: Path) -> float:
    """Run the study to its end; seconds it took.

    Raises:
        RuntimeError: it did not end well.
    """
    started = time.monotonic()
    if start(study, out).wait() != 0:
        raise RuntimeError(f"the run in {out} failed:\n{out.with_suffix('.log').read_text()[-3000:]}")
    return time.monotonic() - started


def results(run: Path) -> dict[str, str]:
    """Everything that must not depend on kills: file -> hash, and record field -> value; working files too."""
    found = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        name = path.relative_to(run).as_posix()
        if path.name == RECORD:
            record = json.loads(path.read_text())
            found |= {f"{name}: {k}": json.dumps(v) for k, v in record.items() if k not in OF_THE_CLOCK}
        elif name not in NOT_COMPARED:
            found[name] = hash_file(path)
    return found


def code_hash() -> str:
    """What the package's own files hold: runs can only be alike while it stays the same."""
    home = Path(preftrace.__file__).parent
    return hash_json({p.relative_to(home).as_posix(): hash_file(p) for p in sorted(home.rglob("*.py"))})


def kill_once(study: str, out: Path, at: float, expected: dict[str, str]) -> Kill:
    """Start a run in a new folder, kill it `at` seconds after, run it again, and compare."""
    process = start(study, out)
    try:
        process.wait(timeout=at)
    except subprocess.TimeoutExpired:
        process.kill()
    ended = process.wait() == 0
    finished = len([p for p in out.rglob(RECORD) if ".partial" not in p.as_posix()])
    begun = tuple(sorted(p.relative_to(out).as_posix() for p in out.rglob("*.partial")))
    resumed = finish(study, out)
    found = results(out)
    differing = (k for k in sorted(found.keys() | expected.keys()) if found.get(k) != expected.get(k))
    missing = () if (out / "report.html").is_file() else ("report.html",)
    return Kill(at, finished, begun, ended, resumed, (*differing, *missing))


def kills(study: str, folder: Path, number: int, seed: int = 0) -> Iterator[Kill]:
    """Kill a study at `number` moments, spread over the length of an uninterrupted run: one in each equal part.

    Args:
        study: a study file, or `starter`.
        folder: where the run folders go, side by side; a killed run's folder is removed when it was equal.
        number: how many kills.
        seed: of the moments.

    Raises:
        RuntimeError: a run failed, or the code was changed between two runs.
    """
    draw = random.Random(seed)
    code = code_hash()
    seconds = 0.95 * finish(study, folder / "whole")
    expected = results(folder / "whole")
    for i in range(number):
        out = folder / f"killed-{i}"
        done = kill_once(study, out, seconds * (i + draw.random()) / number, expected)
        if code_hash() != code:
            raise RuntimeError("the code of preftrace was changed meanwhile: the runs cannot be compared")
        if not done.differences:
            shutil.rmtree(out)
        yield done


def main() -> int:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="starter", help="study file, or starter")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the run folders here (a temporary folder)")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="preftrace-kill-"))
    folder.mkdir(parents=True, exist_ok=True)
    bad = 0
    for number, kill in enumerate(kills(asked.study, folder, asked.kills, asked.seed), start=1):
        bad += bool(kill.differences)
        where = ", ".join(kill.begun) or "between steps"
        moment = f"kill {number} at {kill.at:.1f} s: " + ("it had ended" if kill.ended else f"in {where}")
        verdict = f"DIFFERS in {', '.join(kill.differences)}" if kill.differences else "equal"
        print(f"{moment}; {kill.finished} steps were done; resumed in {kill.resumed:.1f} s: {verdict}", flush=True)
    print(f"{asked.kills - bad} of {asked.kills} resumed runs equal the uninterrupted one; folder {folder}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
