"""kill -9 of influence at ten moments, in either mode: the same command goes on, and every file is as if nobody had."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import preftrace
from tests.slow import kill_study

STUDY = """\
name: many
model: {model}
preferences: {{source: columns, path: {pairs}}}
adapter: {{r: 2, alpha: 4}}
stages:
  dpo: {{from: base, beta: 0.1, batch_size: 16, learning_rate: 0.01}}
verticals:
  toxicity: {{limit: 3, samples: 2, max_new_tokens: 6}}
  ethics: {{limit: 4, max_new_tokens: 6}}
"""
PAIRS, KILLS, DELAY = 300, 10, 0.1
SIDES_AND_TOKENS = {"sides": True, "show_tokens": 4}
MODES = {
    "store": {"mode": "store", "methods": ["identity", "datainf", "exact", "ekfac"], "projection": 8},
    "streaming": {"methods": ["identity", "datainf"]},
    "streaming, computed twice": {"methods": ["identity", "datainf"], "cache_gb": 0, "pilot": 64},
}
COMMAND = "import json, preftrace, sys; preftrace.attribute(sys.argv[1], 'dpo', sys.argv[2], **json.loads(sys.argv[3]))"
PART = "manifest.json"
"""Written last in each part of each pass: their number says how far the work is."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tiny_folder, tmp_path_factory):
    """A finished run; nothing is written into it."""
    home = tmp_path_factory.mktemp("many")
    rows = [
        {"prompt": f"Number {i}: may I?", "chosen": "Yes, sir." * (1 + i % 3), "rejected": "No."} for i in range(PAIRS)
    ]
    (home / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "study.yaml").write_text(STUDY.format(model=tiny_folder, pairs=home / "pairs.jsonl"))
    return preftrace.run(home / "study.yaml", home / "run").folder


def start(run: Path, home: Path, settings: dict) -> subprocess.Popen:
    words = [sys.executable, "-c", COMMAND, str(run), str(home / "dpo"), json.dumps(settings)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def parts(home: Path) -> int:
    return sum(PART in files for _, _, files in os.walk(home))  # what is removed meanwhile is passed over


def unharmed(run: Path, home: Path, settings: dict) -> int:
    """A run to the end: how many parts there are when it is nearly there."""
    process, most = start(run, home, settings), 0
    while process.poll() is None:
        most = max(most, parts(home))
        time.sleep(0.001)
    assert process.returncode == 0
    return most


def kill_at(run: Path, home: Path, settings: dict, part: int, delay: float) -> int:
    """Start or go on, and kill `delay` seconds after there are so many parts; how many there are then."""
    kill_study.kill_once_there(start(run, home, settings), lambda: parts(home) >= part, delay)
    return parts(home)


@pytest.mark.parametrize("mode", MODES)
def test_killed_influence_goes_on_to_the_same_bytes(run, tmp_path, mode):
    settings = MODES[mode] | SIDES_AND_TOKENS
    home = tmp_path / "home"
    number = unharmed(run, home, settings)
    expected = kill_study.results(home)
    shutil.rmtree(home)  # a part's manifest is a hash of what it was computed from, its place too
    assert {f"dpo/{name}.parquet" for name in ("scores", "layers", "tokens")} < set(expected)
    assert ("dpo.store/part-00004/rows.safetensors" in expected) == (mode == "store")
    assert not [name for name in expected if "/_" in name or name.startswith("dpo.partial")]
    draw, there = random.Random(0), []
    for i in range(KILLS):
        # One in each tenth of the work: in a part, in the writing of it, or right after it.
        part = min(draw.randrange(max(number * i // KILLS, 1), number * (i + 1) // KILLS + 1), number - 2)
        there.append(kill_at(run, home, settings, part, draw.uniform(0, DELAY)))
    print(f"{mode}: parts that were there at each kill, of {number}:", there)
    assert there[:-1] == sorted(there[:-1]) and len(set(there)) >= KILLS // 2, f"the moments are badly chosen: {there}"
    assert start(run, home, settings).wait() == 0
    assert kill_study.results(home) == expected
