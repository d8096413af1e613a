"""What is left out and what is held out."""

import pytest

from preftrace.errors import DataError
from preftrace.preferences import PreferencesConfig, keep
from preftrace.preferences.reading import flagged
from preftrace.types import Message, Pair, prompt_to_json, text_id


def pair(n, *flags, prompt=None, answer="a"):
    prompt = (Message("user", f"q{n}" if prompt is None else prompt),)
    made = Pair(
        id=text_id(prompt_to_json(prompt), answer, "b"), prompt=prompt, chosen=answer, rejected="b", source="hh", row=n
    )
    return flagged(made, *flags)


def ids(pairs):
    return [p.id for p in pairs]


HALF = PreferencesConfig(holdout=0.3)


def test_nothing_is_lost_and_order_stays():
    pairs = [pair(n, *(["fork"] if n % 7 == 0 else [])) for n in range(200)]
    kept = keep(pairs, HALF, seed=0)
    everything = [*kept.train, *kept.holdout, *(d.pair for d in kept.dropped)]
    assert sorted(ids(everything)) == sorted(ids(pairs))
    assert [p.row for p in kept.train] == sorted(p.row for p in kept.train)


def test_the_share_held_out_is_about_what_was_asked():
    """2,000 draws at 0.3: standard deviation 20.5, so 600 +- 82 is four of them."""
    kept = keep([pair(n) for n in range(2000)], HALF, seed=0)
    assert abs(len(kept.holdout) - 600) < 82


def test_rows_that_are_added_move_no_pair():
    few, many = [pair(n) for n in range(50, 100)], [pair(n) for n in range(150)]
    small, large = keep(few, HALF, seed=3), keep(many, HALF, seed=3)
    assert set(ids(small.holdout)) <= set(ids(large.holdout))
    assert set(ids(small.train)) <= set(ids(large.train))


def test_another_seed_holds_out_others_and_the_same_seed_the_same():
    pairs = [pair(n) for n in range(100)]
    assert keep(pairs, HALF, 1) == keep(pairs, HALF, 1)
    assert ids(keep(pairs, HALF, 1).holdout) != ids(keep(pairs, HALF, 2).holdout)


def test_pairs_of_one_prompt_lie_on_one_side():
    pairs = [pair(n, prompt=f"q{n % 40}", answer=f"a{n}") for n in range(200)]
    kept = keep(pairs, HALF, seed=0)
    assert kept.holdout
    assert not {p.prompt for p in kept.train} & {p.prompt for p in kept.holdout}


def test_each_pair_is_dropped_for_one_reason_the_first_of_the_usual_order():
    pairs = [
        pair(0),
        pair(1, "identical", "empty"),
        pair(2, "duplicate"),
        pair(3, "malformed", "fork"),
        pair(4, "fork"),
    ]
    kept = keep(pairs, PreferencesConfig(), seed=0)
    assert [(d.pair.row, d.reason) for d in kept.dropped] == [
        (1, "empty"),
        (2, "duplicate"),
        (3, "malformed"),
        (4, "fork"),
    ]


def test_flags_that_are_not_in_drop_keep_their_pairs_except_malformed():
    pairs = [pair(0, "fork"), pair(1, "empty"), pair(2, "malformed")]
    kept = keep(pairs, PreferencesConfig(drop=()), seed=0)
    assert [p.row for p in kept.train] == [0, 1]
    assert [d.reason for d in kept.dropped] == ["malformed"]


def test_duplicates_that_are_kept_get_ids_of_their_own_on_the_same_side():
    pairs = [pair(0), pair(0, "duplicate"), pair(0, "duplicate")]
    kept = keep(pairs, PreferencesConfig(drop=()), seed=0)
    assert ids(kept.train) == [pairs[0].id, f"{pairs[0].id}-2", f"{pairs[0].id}-3"]


def test_nothing_left_to_train_on_says_where_everything_went():
    with pytest.raises(DataError, match=r"2 read, 2 dropped \(.*'fork': 2.*\), 0 held out"):
        keep([pair(0, "fork"), pair(1, "fork")], PreferencesConfig(), seed=0)
