"""What benchmarks share: clocks, the peak memory of a process, and what numbers depend on besides the settings."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("preftrace", "torch", "transformers", "peft")


def clocked(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what the work returned."""
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


@contextlib.contextmanager
def timed(home: Any, name: str, seconds: dict[str, float], part: str) -> Iterator[None]:
    """Inside, the time of the function `home.name` is added to `seconds[part]`."""
    plain = getattr(home, name)

    def work(*args: Any, **names: Any) -> Any:
        took, found = clocked(lambda: plain(*args, **names))
        seconds[part] += took
        return found

    setattr(home, name, work)
    try:
        yield
    finally:
        setattr(home, name, plain)


def never_ending(lm: Any) -> None:
    """Give the tokenizer an end token that the model does not have, and the model none."""
    if lm.tokenizer.pad_token is None:
        lm.tokenizer.pad_token = lm.tokenizer.eos_token
    lm.tokenizer.add_special_tokens({"eos_token": "<never>"})
    lm.model.generation_config.eos_token_id = None
    assert lm.tokenizer.eos_token_id >= lm.model.get_output_embeddings().out_features


def peak_rss_mib() -> float:
    """This process's highest resident size so far."""
    # Linux hands ru_maxrss on from the process that starts another: only the kernel's own mark is this process's.
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def number_of_a_process(script: str, words: Sequence[str]) -> float:
    """The last word that a fresh process of a script prints, as a number."""
    done = subprocess.run([sys.executable, script, *words], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def write(found: dict[str, Any], path: Path | None) -> None:
    """Write all numbers as JSON where a file is named."""
    if path is not None:
        path.write_text(json.dumps(found, indent=2) + "\n")


def circumstances(script: str, words: Sequence[str]) -> dict[str, Any]:
    """Command, machine and versions."""
    names = {platform.processor()}
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = {line.partition(": ")[2] for line in lines if line.startswith("model name")} or names
    return {
        "command": " ".join(["python", f"benchmarks/{Path(script).name}", *words]),
        "machine": {
            "processor": ", ".join(sorted(names)),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load_before": os.getloadavg()[0],
            "mkl_cbwr": os.environ.get("MKL_CBWR"),
        },
        "versions": {name: version(name) for name in PACKAGES},
    }
