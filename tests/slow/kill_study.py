"""Kill a study with SIGKILL at random moments, run it again each time, and compare with a run that nobody killed.

    python tests/slow/kill_study.py --study study.yaml --kills 10      # a run for each kill
    python tests/slow/kill_study.py --study starter --in-a-row         # ten kills in one run

Prints a line for each kill and ends with exit code 1 if a resumed run differs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
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


def kill_once_there(process: subprocess.Popen[bytes], reached: Callable[[], bool], delay: float) -> None:
    """Kill a process `delay` seconds after what `reached` says.

    Raises:
        RuntimeError: it ended by itself before.
    """
    while not reached():
        if process.poll() is not None:
            raise RuntimeError("it ended before it could be killed")
        time.sleep(0.0005)
    time.sleep(delay)
    process.kill()
    if process.wait() != -signal.SIGKILL:
        raise RuntimeError("it ended before it could be killed")


def kill_after(study: str, out: Path, at: float) -> Kill:
    """Start a run, or go on with one, and kill it `at` seconds after; nothing is compared yet."""
    process = start(study, out)
    try:
        process.wait(timeout=at)
    except subprocess.TimeoutExpired:
        process.kill()
    ended = process.wait() == 0
    finished = len([p for p in out.rglob(RECORD) if ".partial" not in p.as_posix()])
    begun = tuple(sorted(p.relative_to(out).as_posix() for p in out.rglob("*.partial")))
    return Kill(at, finished, begun, ended, 0.0, ())


def finish_and_compare(study: str, out: Path, kill: Kill, expected: dict[str, str]) -> Kill:
    """Run a killed study to its end and say what is not as in the uninterrupted run."""
    resumed = finish(study, out)
    found = results(out)
    differing = (k for k in sorted(found.keys() | expected.keys()) if found.get(k) != expected.get(k))
    missing = () if (out / "report.html").is_file() else ("report.html",)
    return kill._replace(resumed=resumed, differences=(*differing, *missing))


def kills_in_a_row(study: str, folder: Path, number: int, seed: int = 0, whole: Path | None = None) -> Iterator[Kill]:
    """Kill one run `number` times, going on each time; the last of them is then run to its end and compared.

    Args:
        study: a study file, or `starter`.
        folder: where the run folders go.
        number: how many kills.
        seed: of the moments, each 0.4 to 1.6 parts of the run's length over `number` after its start.
        whole: an uninterrupted run of the same code and study, where there is one already.
    """
    draw = random.Random(seed)
    if whole is None:
        whole = folder / "whole"
        finish(study, whole)
    expected = results(whole)
    records = [json.loads(path.read_text()) for path in whole.rglob(RECORD)]
    part = sum(record["seconds"] for record in records) / number
    for i in range(number):
        kill = kill_after(study, folder / "killed", part * draw.uniform(0.4, 1.6))
        yield finish_and_compare(study, folder / "killed", kill, expected) if i == number - 1 else kill


def kill_once(study: str, out: Path, at: float, expected: dict[str, str]) -> Kill:
    """Start a run in a new folder, kill it `at` seconds after, run it again, and compare."""
    return finish_and_compare(study, out, kill_after(study, out, at), expected)


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
    parser.add_argument("--in-a-row", action="store_true", help="all kills in one run, which is compared at its end")
    parser.add_argument("--whole", type=Path, help="an uninterrupted run to compare with (with --in-a-row)")
    parser.add_argument("--folder", type=Path, help="keep the run folders here (a temporary folder)")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="preftrace-kill-"))
    folder.mkdir(parents=True, exist_ok=True)
    bad = 0
    if asked.in_a_row:
        killed = kills_in_a_row(asked.study, folder, asked.kills, asked.seed, asked.whole)
    else:
        killed = kills(asked.study, folder, asked.kills, asked.seed)
    for number, kill in enumerate(killed, start=1):
        bad += bool(kill.differences)
        where = ", ".join(kill.begun) or "between steps"
        moment = f"kill {number} at {kill.at:.1f} s: " + ("it had ended" if kill.ended else f"in {where}")
        verdict = f"DIFFERS in {', '.join(kill.differences)}" if kill.differences else "equal"
        compared = f"; resumed in {kill.resumed:.1f} s: {verdict}" if kill.resumed else ""
        print(f"{moment}; {kill.finished} steps were done{compared}", flush=True)
    print(f"{bad} of {1 if asked.in_a_row else asked.kills} resumed runs differ from the uninterrupted one; {folder}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
