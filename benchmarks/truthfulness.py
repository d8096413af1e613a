"""TruthfulQA's MC1 and MC2: our log-likelihoods against those of lm-evaluation-harness, and how long they take.

    python benchmarks/truthfulness.py --items truthfulqa_mc.json              # prints a table; minutes on two cores
    python benchmarks/truthfulness.py --items truthfulqa_mc.json --json t.json

Needs `lm-eval` (with its `hf` extra). Both sides ask the same questions of one model object, in float32, after the
solved questions that lm-eval's own task file puts first: its file is read where it is installed. **Theirs** are the
requests of its tasks `truthfulqa_mc1` and `truthfulqa_mc2`, built by its own task classes from a local file, through
one call of its `hf` backend at the batch size that is fastest on the first questions. **Ours** is the evaluation's
worker over its shards, each a batch of questions, from prompts to log-likelihoods, with the solved questions as
`preamble`; each distinct option of a question is scored once for both measures. Loading models and building requests
is not timed on their side; only loading is not on ours. `time_ratio_to_lm_eval` is ours over theirs, medians of
`rounds` in turns; `max_loglik_diff` is over all options of both measures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lm_eval.tasks
import yaml
from _machine import circumstances, clocked, write
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM

from preftrace import progress
from preftrace.engines._base import ShardOutput
from preftrace.evaluate import configure, load, runner
from preftrace.evaluate.backend import Target
from preftrace.evaluate.backends import hf
from preftrace.evaluate.worker import Worker
from preftrace.types import Checkpoint, Item

MEASURES = ("mc1", "mc2")
SIZES = (1, 4, 8, 16)
TRIED = 4
"""Questions on which batch sizes are tried."""


def their_task(name: str) -> dict[str, Any]:
    """A task file of lm-eval, with those that it includes; functions of its own are left out."""
    folder = Path(lm_eval.tasks.__file__).parent / "truthfulqa"
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!function", lambda *_: None)
    found: dict[str, Any] = yaml.load((folder / f"{name}.yaml").read_text(encoding="utf-8"), Loader=loader)
    included = found.pop("include", None)
    return {**(their_task(Path(included).stem) if included else {}), **found}


def their_requests(questions: Sequence[dict[str, Any]], folder: Path) -> dict[str, list[Any]]:
    """Measure -> a request for each option of each question, in order."""
    path = folder / "questions.json"
    path.write_text(json.dumps(list(questions)), encoding="utf-8")
    found = {}
    for measure in MEASURES:
        local = {
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {"validation": str(path)}},
        }
        config = {**their_task(f"truthfulqa_{measure}"), **local, "process_results": None}
        task = ConfigurableTask(config={name: value for name, value in config.items() if value is not None})
        task.build_all_requests(rank=0, world_size=1)
        found[measure] = sorted(task.instances, key=lambda one: (one.doc_id, one.idx))
    return found


class Ground:
    """One model and the same questions for both sides.

    Args:
        asked: the command line's settings.
        folder: for working files.
    """

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        values = json.loads(asked.items.read_text(encoding="utf-8"))[: asked.count]
        questions = [
            {
                "question": row["question"].strip(),
                **{
                    f"{measure}_targets": {
                        "choices": [text.strip() for text in row[f"{measure}_targets"]],
                        "labels": [int(label) for label in row[f"{measure}_targets"].values()],
                    }
                    for measure in MEASURES
                },
            }
            for row in values
        ]
        self.theirs = their_requests(questions, folder)
        context = self.theirs["mc1"][0].args[0]
        preamble = folder / "preamble.txt"
        preamble.write_text(context.rpartition("Q: ")[0], encoding="utf-8")
        config = configure(
            "truthfulness",
            {"source": "truthfulqa", "path": str(folder / "questions.json"), "preamble": str(preamble)}
            | ({"batch_size": asked.batch_size} if asked.batch_size else {}),
        )
        self.items: list[Item] = load("truthfulness").items(config, 0)
        self.checkpoint = Checkpoint(asked.model)
        self.shards = runner.shards(self.items, config.batch_size, 0, 0)
        self.lm = hf._load(self.checkpoint, "", "raw", "float32")

    def harness(self, size: int) -> HFLM:
        """Their backend, with our model object."""
        return HFLM(pretrained=self.lm.model, tokenizer=self.lm.tokenizer, batch_size=size, device=str(self.lm.device))

    def ask_theirs(self, harness: HFLM, requests: dict[str, list[Any]]) -> dict[tuple[str, str], float]:
        """(prompt, option) -> log-likelihood."""
        flat = [one for measure in MEASURES for one in requests[measure]]
        values = harness.loglikelihood(flat, disable_tqdm=True)
        return {one.args: value for one, (value, _) in zip(flat, values, strict=True)}

    def ask_ours(self) -> list[ShardOutput]:
        """Every shard's output, from a worker that starts with nothing but the loaded model."""
        target = Target(self.checkpoint, "bench", "truthfulness", "raw", "float32", "", {}, runner.opening(self.items))
        worker = Worker({"name": "hf"}, asdict(target), None, {})
        return [worker.run(shard) for shard in self.shards]

    def best_size(self) -> tuple[int, dict[str, float]]:
        """Their fastest batch size on the first questions, and the seconds of all."""
        first = {m: [one for one in self.theirs[m] if one.doc_id < TRIED] for m in MEASURES}
        seen = {}
        for size in SIZES:
            harness = self.harness(size)
            seen[str(size)] = clocked(lambda harness=harness: self.ask_theirs(harness, first))[0]
        return int(min(seen, key=lambda size: seen[size])), seen


def differences(
    items: Sequence[Item], outputs: Sequence[ShardOutput], theirs: dict[tuple[str, str], float]
) -> list[float]:
    """Of every option's log-likelihood; each option of each side has one on the other.

    Raises:
        KeyError: an option that the other side was not asked about.
    """
    prompts = {item.id: item.prompt for item in items}
    texts = {(item.id, i): f" {option.text}" for item in items for i, option in enumerate(item.options)}
    found = {
        (str(prompts[row["item_id"]]), texts[row["item_id"], row["option"]]): row["logprob"]
        for output in outputs
        for row in output["logprobs"].to_pylist()  # type: ignore[union-attr]
    }
    return [abs(found[key] - theirs[key]) for key in found.keys() | theirs.keys()]


def compare(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both sides in turns."""
    ground = Ground(asked, folder)
    ground.ask_ours()
    size, tried = (asked.size, {}) if asked.size else ground.best_size()
    harness = ground.harness(size)
    seconds: dict[str, list[float]] = {"ours": [], "lm_eval": []}
    for _ in range(asked.rounds):
        took, outputs = clocked(ground.ask_ours)
        seconds["ours"].append(took)
        took, theirs = clocked(lambda: ground.ask_theirs(harness, ground.theirs))
        seconds["lm_eval"].append(took)
    off = differences(ground.items, outputs, theirs)
    middle = {side: statistics.median(found) for side, found in seconds.items()}
    return {
        "time_ratio_to_lm_eval": middle["ours"] / middle["lm_eval"],
        "max_loglik_diff": max(off),
        "seconds": middle,
        "seconds_of_all_rounds": seconds,
        "questions": len(ground.items),
        "options": {"ours": len(off), "lm_eval": sum(len(found) for found in ground.theirs.values())},
        "preamble_tokens": len(ground.lm.tokenizer(str(ground.items[0].prompt).rpartition("Q: ")[0])["input_ids"]),
        "lm_eval_batch_size": size,
        "lm_eval_batch_sizes_tried": tried,
        "lm_eval": version("lm_eval"),
    }


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{found['questions']} questions, {found['options']['lm_eval']} options of MC1 and MC2")
    for side, seconds in found["seconds"].items():
        print(f"{side:8}{seconds:9.2f} s{seconds / found['questions']:8.2f} s a question")
    print(f"ratio {found['time_ratio_to_lm_eval']:.3f}; largest difference {found['max_loglik_diff']:.2g}")


def main(words: Sequence[str]) -> int:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=Path, required=True, help="TruthfulQA's multiple-choice json")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--model", default="starter", help="starter, a Hub id or a folder")
    parser.add_argument("--count", type=int, default=60, help="questions, the file's first")
    parser.add_argument("--rounds", type=int, default=1, help="how often each side is timed")
    parser.add_argument("--batch-size", type=int, help="questions in one of our batches (the vertical's default)")
    parser.add_argument("--size", type=int, help="lm-eval's batch size (the fastest on the first questions)")
    asked = parser.parse_args(words)
    progress.quiet = True
    with tempfile.TemporaryDirectory() as folder:
        found = circumstances(__file__, words) | compare(asked, Path(folder))
    show(found)
    write(found, asked.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
