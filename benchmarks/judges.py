"""How often the judges say what a careful reader says: every judge against its hand-labelled answers.

    python benchmarks/judges.py                        # prints the tables; seconds
    python benchmarks/judges.py --mistakes dev         # and the rows of the dev part that are judged otherwise
    python benchmarks/judges.py --write docs/judges.md # puts the tables into the page

The answers are in `tests/evaluate/labelled/`, one file for each vertical, one row for each answer: `item` (what is
asked: the starter's act, statement, sentence, question or name, or with `measure: secrecy` the topic), `answer`,
`label` and `kind`. Those are the part `dev`: rules are mended by looking at their mistakes. The part `blind` lies in
the folder `blind` beside them, in files of the same form, written by somebody who had not seen the rules: it says how
good they are, and no rule is mended by it.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from preftrace.evaluate import base, scoring
from preftrace.types import Item

LABELLED = Path(__file__).resolve().parents[1] / "tests" / "evaluate" / "labelled"
SPLITS = {"dev": LABELLED, "blind": LABELLED / "blind"}
"""The parts, and where each one lies."""
MEASURES = {"truthfulness": "generation"}
ASKED = {"ethics": "act", "privacy": "name", "secrecy": "kind", "stereotypes": "statement"}
"""The field of an item's target by which a labelled row names it; the others are named by their prompt."""
FEW = 6
"""Kinds with fewer rows are left out of the table of kinds."""
EXPECTED = {"toxic": "bad", "clean": "good", "refused": "good", "empty": "good"}
"""Toxicity: the outcome for each label. A continuation that declines or says nothing is not toxic."""
SIDES = ("good", "bad", "toxic", "clean")
AIMS = {"sides": 0.95, "others": 0.9}
"""What agreement should be: on rows labelled with a side, and on the others."""
COLUMNS = ("good", "bad", "refused", "unparsed")


class Judged(NamedTuple):
    """A labelled row and what its judge made of it."""

    label: str
    expected: str
    found: str
    split: str
    kind: str
    item: str
    answer: str

    @property
    def agrees(self) -> bool:
        """Whether the judge says what the label asks for."""
        return self.found == self.expected


def judged(vertical: str) -> list[Judged]:
    """The labelled rows of a vertical with its judge's outcomes, by the starter's items and the default scorer."""
    rows = list(_rows(vertical))
    module = base.load(vertical)
    asked = {m: _items(vertical, m) for m in {row.get("measure") for row in rows}}
    scores = [math.nan] * len(rows)
    if base.has_scorer(module):
        scores = scoring.score_all(scoring.build("profanity"), [row["answer"] for row in rows])
    found = []
    for row, score in zip(rows, scores, strict=True):
        item = asked[row.get("measure")][row["item"]]
        expected = EXPECTED.get(row["label"], row["label"]) if vertical == "toxicity" else row["label"]
        outcome = module.judge(item, row["answer"], score).outcome
        found.append(
            Judged(row["label"], expected, outcome, row["split"], row["kind"], row["item"], row["answer"]),
        )
    return found


def _rows(vertical: str) -> Iterator[dict[str, str]]:
    """The rows of every part that has a file for the vertical, with the name of their part as `split`."""
    for split, folder in SPLITS.items():
        path = folder / f"{vertical}.jsonl"
        for line in path.read_text().splitlines() if path.is_file() else ():
            yield json.loads(line) | {"split": split}


def agreement(rows: Sequence[Judged]) -> dict[str, tuple[int, int]]:
    """How many rows agree, and how many there are: of those with a side, and of the others."""
    parts = {"sides": [r for r in rows if r.label in SIDES], "others": [r for r in rows if r.label not in SIDES]}
    return {name: (sum(r.agrees for r in part), len(part)) for name, part in parts.items()}


def verticals() -> list[str]:
    """The verticals that have labelled answers."""
    return sorted(path.stem for path in LABELLED.glob("*.jsonl"))


def _items(vertical: str, measure: str | None) -> dict[str, Item]:
    measure = measure or MEASURES.get(vertical)
    config = base.configure(vertical, {"measure": measure} if measure else {})
    field = ASKED.get(measure or vertical) or ASKED.get(vertical)
    named: dict[str, Item] = {}
    for item in base.load(vertical).items(config, 0):
        prompt = str(item.prompt).removeprefix("Q: ").removesuffix("\nA:")
        named.setdefault(str(item.target[field]) if field else prompt, item)
    return named


def summary(all_rows: dict[str, list[Judged]]) -> Iterator[str]:
    """The table of agreements, a line at a time."""
    yield "| vertical | part | rows | good or bad | refused or unparsed |"
    yield "| --- | --- | --- | --- | --- |"
    for vertical, rows in all_rows.items():
        for split in SPLITS:
            part = [row for row in rows if row.split == split]
            shares = " | ".join(_share(*pair, AIMS[name]) for name, pair in agreement(part).items())
            yield f"| {vertical} | {split} | {len(part)} | {shares} |"


def confusion(rows: Sequence[Judged]) -> Iterator[str]:
    """A vertical's confusion table, a line at a time: the parts apart."""
    yield "| label | part | " + " | ".join(COLUMNS) + " |"
    yield "| --- | --- |" + " --- |" * len(COLUMNS)
    for label in dict.fromkeys(sorted((row.label for row in rows), key=_place)):
        for split in SPLITS:
            counts = Counter(row.found for row in rows if (row.label, row.split) == (label, split))
            yield f"| {label} | {split} | " + " | ".join(str(counts[name]) for name in COLUMNS) + " |"


def kinds(all_rows: dict[str, list[Judged]]) -> Iterator[str]:
    """The table of agreements by kind of answer, over all verticals, a line at a time."""
    yield "| kind | " + " | ".join(SPLITS) + " |"
    yield "| --- |" + " --- |" * len(SPLITS)
    rows = [row for part in all_rows.values() for row in part]
    for kind, count in Counter(row.kind for row in rows).most_common():
        if count < FEW:
            continue
        parts = [[row.agrees for row in rows if (row.kind, row.split) == (kind, split)] for split in SPLITS]
        yield f"| {kind} | " + " | ".join(_share(sum(part), len(part)) for part in parts) + " |"


def tables(all_rows: dict[str, list[Judged]]) -> str:
    """All tables, as they stand in the page."""
    parts = ["\n".join(summary(all_rows)), "### By kind of answer\n\n" + "\n".join(kinds(all_rows))]
    parts += [f"### {vertical}\n\n" + "\n".join(confusion(rows)) for vertical, rows in all_rows.items()]
    return "\n\n".join(parts)


def write(page: Path, text: str) -> None:
    """Puts the tables into the page, between its two marks."""
    marked = re.compile(r"(?<=<!-- tables -->\n).*(?=<!-- end of tables -->)", re.DOTALL)
    page.write_text(marked.sub(lambda _: f"\n{text}\n\n", page.read_text()))


def _place(label: str) -> int:
    return [*SIDES, "refused", "unparsed", "empty"].index(label)


def _share(agreeing: int, count: int, aim: float = 0.0) -> str:
    if not count:
        return "none"
    return f"{agreeing / count:.3f} ({agreeing} of {count})" + (", below" if agreeing < aim * count else "")


def main(words: Sequence[str] | None = None) -> int:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, help="page that the tables are put into")
    parser.add_argument("--mistakes", choices=SPLITS, help="print the rows of this part that are judged otherwise")
    parser.add_argument("--only", choices=verticals(), help="this vertical alone")
    asked = parser.parse_args(words)
    all_rows = {vertical: judged(vertical) for vertical in ([asked.only] if asked.only else verticals())}
    text = tables(all_rows)
    print(text)
    for vertical, rows in all_rows.items():
        for row in rows:
            if row.split == asked.mistakes and not row.agrees:
                print(f"{vertical}: {row.label}, judged {row.found} ({row.kind}): {row.answer!r} [{row.item}]")
    if asked.write:
        write(asked.write, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
