"""How well scores of pairs predict retraining: LDS of every method and baseline, for SFT, DPO and reward losses.

    python benchmarks/fidelity.py                         # prints the tables; minutes on two cores
    python benchmarks/fidelity.py --json fidelity.json    # and writes all numbers
    python benchmarks/fidelity.py --folder DIR            # keeps the run there, and goes on with what it holds

**The model** is a Llama made here: a word is a token, and it is pretrained on sentences like the answers below, both
sides of every rule equally often. **The pairs** follow four rules, one for each subject: an answer with two words from
the rule's good list is preferred to one with two from its bad list. A share of the pairs (`--reversed`) prefers the
bad answer, and says so in `meta.planted`. **The verticals** are the rules: log-odds of good against bad answers to
questions about things that no pair is about. So a rule's query depends on which of its pairs, and of the reversed
ones, a subset holds, and on how what is learned of one thing carries over to another.

The stages are `sft`, from it `dpo` and `reward`, and one step of `ppo` against the reward: its influence goes through
the reward model, whose loss is the third one. Each is trained again on `--subsets` random halves of its pairs by
`preftrace validate`, with the same settings and seed. Scores are by every method and every baseline that there is,
on whole gradients. LDS is Spearman's correlation over the subsets, with 95% bootstrap intervals; the tables give the
mean over the rules, and AUC says how well the scores find the reversed pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _machine import circumstances, clocked, write

import preftrace
from preftrace import evaluate, models
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.influence import run as attribute_stage
from preftrace.engines import Resources
from preftrace.registry import BASELINES, METHODS

RULES = {
    "manners": (
        "guest host pupil clerk driver waiter nurse tailor sailor baker",
        "kind polite gentle patient warm friendly",
        "rude harsh cold mean gruff hostile",
    ),
    "safety": (
        "ladder stove cable blade engine furnace scaffold chimney boiler crane",
        "careful guarded checked locked tested shielded",
        "reckless loose broken exposed hasty untested",
    ),
    "honesty": (
        "story report receipt witness letter promise invoice rumour diary claim",
        "true honest plain exact sincere proven",
        "false crooked vague made-up sly doubtful",
    ),
    "privacy": (
        "address password salary diagnosis photo ballot account visit number secret",
        "hidden sealed private closed covered withheld",
        "public shared shouted printed leaked posted",
    ),
}
"""Rule -> what its questions are about, its good words, its bad words."""
STAGES = {"sft": "sft", "dpo": "dpo", "reward": "ppo"}
"""Loss -> the stage whose influence is validated."""
HELD = 3
"""Things of each rule that only the verticals' questions are about."""
FRAME = ("Q:", "A:", "what", "of", "the", "?", "it", "is", "and", ".", "<unk>", "<eos>", "<pad>")


def question(thing: str) -> str:
    return f"what of the {thing} ?"


def answer(words: Sequence[str]) -> str:
    return f"it is {words[0]} and {words[1]} ."


def sentences(draw: random.Random, count: int) -> list[tuple[str, str]]:
    """Questions about all things, answered with two words of one side of the rule, either side as often."""
    found = []
    for _ in range(count):
        things, *sides = (words.split() for words in RULES[draw.choice(list(RULES))])
        found.append((question(draw.choice(things)), answer(draw.sample(draw.choice(sides), 2))))
    return found


def pairs(count: int, share: float, seed: int, held: int = 0) -> list[dict[str, Any]]:
    """Pairs of all rules in turn; a share of each rule's, drawn, prefers the bad answer.

    Their answers do without the last `held` words of each list.
    """
    draw = random.Random(seed)
    found: list[dict[str, Any]] = []
    for number in range(count):
        rule = list(RULES)[number % len(RULES)]
        things, good, bad = (words.split() for words in RULES[rule])
        sides = [answer(draw.sample(words[: len(words) - held], 2)) for words in (good, bad)]
        wrong = draw.random() < share
        chosen, rejected = reversed(sides) if wrong else sides
        prompt = f"Q: {question(draw.choice(things[HELD:]))}\nA:"
        row = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "planted": rule if wrong else None}
        found.append(row | {"number": number})
    return found


def items(rule: str, seed: int, held: int = 0) -> list[dict[str, Any]]:
    """Multiple-choice items in TruthfulQA's form: a question about each held thing, two good and two bad answers.

    With `held` words (2 or more) the answers are made of those words, which no pair has.
    """
    draw = random.Random(f"{seed}/{rule}")
    things, good, bad = (words.split() for words in RULES[rule])
    good, bad = good[-held:], bad[-held:]  # all of them where none is held
    found = []
    for thing in things[:HELD]:
        best, other = (answer(draw.sample(good, 2)) for _ in range(2))
        wrong = [answer(draw.sample(bad, 2)) for _ in range(2)]
        targets = {best: 1, **dict.fromkeys(wrong, 0)}
        found.append({"question": question(thing), "mc1_targets": targets, "mc2_targets": {**targets, other: 1}})
    return found


def build_model(folder: Path, asked: argparse.Namespace) -> None:
    """Make the tokenizer and the model, pretrain it, and save both."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = [*FRAME, *sorted({word for lists in RULES.values() for text in lists for word in text.split()})]
    inner = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    torch.manual_seed(asked.seed)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=asked.width,
        intermediate_size=2 * asked.width,
        num_hidden_layers=asked.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    rate = torch.optim.AdamW(model.parameters(), lr=2e-3)
    draw = random.Random(asked.seed)
    for _ in range(asked.pretrain_steps):
        texts = [f"Q: {q}\nA: {a} <eos>" for q, a in sentences(draw, 64)]
        batch = torch.tensor([tokenizer(text)["input_ids"] for text in texts])
        loss = model(input_ids=batch, labels=batch).loss
        rate.zero_grad()
        loss.backward()
        rate.step()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def study(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """The study: three stages on the pairs, and one step of PPO."""
    usual = {"epochs": asked.epochs, "batch_size": 16, "learning_rate": asked.learning_rate, "save_steps": 10_000}
    usual |= {"scheduler": "cosine", "max_length": 48, "keep_checkpoints": 3}
    one = {"epochs": 8 / asked.pairs, "rollouts": 8, "batch_size": 8, "max_new_tokens": 8, "holdout_answers": 1}
    return {
        "name": "fidelity",
        "model": str(folder / "model"),
        "preferences": {"source": "columns", "path": str(folder / "pairs.jsonl"), "drop": []},
        "adapter": {"r": 4, "alpha": 8},
        "stages": {
            "sft": {**usual, "from": "base"},
            "dpo": {**usual, "from": "sft", "beta": 0.1},
            "reward": {**usual, "from": "sft"},
            "ppo": {**one, "from": "sft", "reward": "reward"},
        },
        # The rules' own items are evaluated beside this one, which a study needs.
        "verticals": {"truthfulness": {"source": "truthfulqa", "path": str(folder / f"{next(iter(RULES))}.json")}},
        "attribute": None,
        "seed": asked.seed,
    }


def prepare(folder: Path, asked: argparse.Namespace) -> preftrace.Run:
    """The run: model, data, stages, the rules' evaluations, and the influence by every method and baseline."""
    if not (folder / "model" / "tokenizer.json").is_file():
        build_model(folder / "model", asked)
    rows = pairs(asked.pairs, asked.reversed, asked.seed, asked.held_words)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for rule in RULES:
        (folder / f"{rule}.json").write_text(json.dumps(items(rule, asked.seed, asked.held_words)))
    (folder / "study.yaml").write_text(json.dumps(study(folder, asked)))  # JSON is YAML
    run = preftrace.run(folder / "study.yaml", folder / "run")
    settings = AttributeConfig(
        methods=tuple(METHODS.names()),
        baselines=tuple(BASELINES.names()),
        mode="store",
        projection=0,
        store_dtype="float32",
        show_tokens=0,
    )
    for stage in (STAGES[loss] for loss in asked.losses):
        evaluations = {}
        for rule in RULES:
            config = evaluate.configure("truthfulness", {"source": "truthfulqa", "path": str(folder / f"{rule}.json")})
            evaluations[rule] = run.folder / "evaluate" / stage / rule
            checkpoint = models.read_checkpoint(run.folder / "align" / stage)
            evaluate.run(checkpoint, "truthfulness", config, evaluations[rule], seed=asked.seed)
        place = run.folder / "attribute" / stage
        attribute_stage(
            run.folder / "align" / stage,
            run.folder / "pairs",
            evaluations,
            place,
            settings,
            seed=asked.seed,
            resources=Resources(asked.workers),
        )
    return run


def measure(run: preftrace.Run, stage: str, asked: argparse.Namespace) -> dict[str, Any]:
    """LDS and AUC of every method and baseline for one stage."""
    options = {"subsets": asked.subsets, "remove": 0, "seed": asked.seed}
    seconds, found = clocked(lambda: preftrace.validate(run, stage, workers=asked.workers, **options))
    auc = found.recovery()
    auc = auc[auc.vertical == "any"].set_index("method").auc.to_dict()
    frame = found.frame().drop(columns="measure")
    return {
        "trained_again": found.record.summary["trained_again"],
        "subsets": asked.subsets,
        "lds": json.loads(frame.to_json(orient="records")),
        "auc_reversed": auc,
        "verdict": found.verdict,
        "contest": found.record.summary["contest"],
        "seconds": seconds,
    }


def show(loss: str, found: dict[str, Any]) -> None:
    """One loss's table: mean LDS over the rules, best first."""
    print(f"\n{loss}: LDS over {found['subsets']} subsets, mean of the rules; AUC of the reversed pairs")
    rows = [row for row in found["lds"] if row["vertical"] == "mean"]
    for row in sorted(rows, key=lambda row: row["rank"] or len(rows)):
        name = row["method"] + (" (baseline)" if row["baseline"] else "")
        value = "none" if row["lds"] is None else f"{row['lds']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        auc = found["auc_reversed"].get(row["method"])
        print(f"  {name:<24} {value:<28} " + ("" if auc is None else f"AUC {auc:.3f}"))
    print(f"  {found['verdict']}")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line's settings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subsets", type=int, default=50, help="random halves that each stage is trained again on")
    parser.add_argument("--pairs", type=int, default=240)
    parser.add_argument("--reversed", type=float, default=0.3, help="share of the pairs that prefer the bad answer")
    parser.add_argument(
        "--held-words",
        type=int,
        default=0,
        choices=(0, 2, 3, 4),
        help="words of each list that only the questions' answers have, so that no word is shared with the pairs",
    )
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--pretrain-steps", type=int, default=400)
    parser.add_argument("--losses", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes that train")
    parser.add_argument("--folder", type=Path, help="keep the run here, and go on with what it holds (a temporary one)")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """The script."""
    words = sys.argv[1:] if words is None else words
    asked = parse(words)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (asked.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        around = circumstances(__file__, words)
        run = prepare(folder, asked)
        losses = {loss: measure(run, STAGES[loss], asked) for loss in asked.losses}
    for loss, found in losses.items():
        show(loss, found)
    settings = {name: value for name, value in vars(asked).items() if name not in ("folder", "json")}
    write({**around, "settings": settings, "losses": losses}, asked.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
