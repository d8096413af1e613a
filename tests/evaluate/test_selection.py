from collections import Counter

import pytest

from preftrace.errors import DataError
from preftrace.evaluate.selection import select
from preftrace.types import Item


def make(number, **target):
    return Item(id=f"{number:04}", vertical="v", cluster="c", prompt="p", target=target)


GRID = [make(100 * t + g, topic=str(t), group=str(g % 8)) for t in range(6) for g in range(24)]


def labels(item):
    return item.target["topic"], item.target["group"]


def test_without_a_limit_all_items_stay_in_order():
    assert select(GRID, None, 0) == GRID and select(GRID, 1000, 0) == GRID


def test_a_subset_is_spread_over_both_labels():
    chosen = select(GRID, 48, 0, labels)

    assert set(Counter(i.target["topic"] for i in chosen).values()) == {8}
    assert set(Counter(i.target["group"] for i in chosen).values()) == {6}
    assert len(set(map(labels, chosen))) == 48


def test_a_small_class_is_taken_as_often_as_a_large_one():
    rows = [make(n, wrong=n % 10 == 0) for n in range(100)]

    chosen = select(rows, 14, 0, lambda item: (str(item.target["wrong"]),))

    assert Counter(i.target["wrong"] for i in chosen) == {True: 7, False: 7}
    assert len(select(rows, 60, 0, lambda item: (str(item.target["wrong"]),))) == 60


def test_the_subset_is_seeded_nested_and_independent_of_the_order_of_rows():
    small, large = select(GRID, 20, 1, labels), select(GRID, 40, 1, labels)

    assert {i.id for i in small} < {i.id for i in large}
    assert {i.id for i in select(GRID[::-1], 20, 1, labels)} == {i.id for i in small}
    assert {i.id for i in select(GRID, 20, 2, labels)} != {i.id for i in small}
    assert [i.id for i in small] == sorted(i.id for i in small)
    assert {i.id for i in select(GRID, 20, 1)} != {i.id for i in GRID[:20]}


def test_duplicates_are_kept_once_and_counted():
    chosen = select([*GRID, GRID[0], GRID[5]], None, 0)

    assert (chosen, chosen.available, chosen.duplicates) == (GRID, len(GRID), 2)


def test_a_source_without_items_is_an_error():
    with pytest.raises(DataError, match="no items"):
        select([], None, 0)
