"""Which items of a source are asked: each id once, and with a limit a seeded subset that is spread over labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from preftrace.errors import DataError
from preftrace.types import Item


class Items(list[Item]):
    """Selected items, and what was left aside.

    Attributes:
        available: items in the source, each id once.
        duplicates: items of the source whose id had been there already.
    """

    def __init__(self, items: Iterable[Item], available: int, duplicates: int) -> None:
        super().__init__(items)
        self.available = available
        self.duplicates = duplicates


def select(
    items: Iterable[Item],
    limit: int | None,
    seed: int,
    labels: Callable[[Item], tuple[str, ...]] = lambda _: (),
    first: bool = False,
) -> Items:
    """Keep each id once, then at most `limit` items, in source order.

    Items are ranked by the hash of (seed, id). The subset is built one item at a time from the label combination
    whose labels have been taken least so far, so that the counts of every label stay even; a larger limit with the
    same seed gives a superset.

    Args:
        items: a source's items.
        limit: most items, or None for all.
        seed: picks the subset.
        labels: what to spread over, such as a topic and a group; an item's labels of one kind stay in one place.
        first: take the first `limit` items instead, as `protocol: paper` does.

    Raises:
        DataError: the source has no items.
    """
    unique: dict[str, Item] = {}
    total = 0
    for item in items:
        total += 1
        unique.setdefault(item.id, item)
    if not unique:
        raise DataError("the source holds no items: it needs at least one row")
    kept = list(unique.values())
    if first:
        kept = kept[:limit]
    elif limit is not None and limit < len(kept):
        chosen = _spread(kept, limit, seed, labels)
        kept = [item for item in kept if item.id in chosen]
    return Items(kept, available=len(unique), duplicates=total - len(unique))


def each_way(items: Items, ways: Callable[[Item], Sequence[Item]]) -> Items:
    """Every selected item in each of the ways to ask it, of which all have as many."""
    asked = [way for item in items for way in ways(item)]
    return Items(asked, available=items.available * (len(asked) // len(items)), duplicates=items.duplicates)


def _rank(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}\x1f{text}".encode("utf-8", "surrogatepass")).hexdigest()


def _spread(items: list[Item], limit: int, seed: int, labels: Callable[[Item], tuple[str, ...]]) -> set[str]:
    cells: dict[tuple[str, ...], list[str]] = {}
    for item in sorted(items, key=lambda item: _rank(seed, item.id), reverse=True):
        cells.setdefault(labels(item), []).append(item.id)
    order = sorted(cells, key=lambda cell: _rank(seed, "\x1f".join(cell)))
    taken: Counter[tuple[int, str]] = Counter()
    used: Counter[tuple[str, ...]] = Counter()
    chosen: set[str] = set()
    while len(chosen) < limit:
        cell = min(order, key=lambda cell: (sum(taken[place] for place in enumerate(cell)), used[cell]))
        chosen.add(cells[cell].pop())
        taken.update(enumerate(cell))
        used[cell] += 1
        if not cells[cell]:
            order.remove(cell)
    return chosen
