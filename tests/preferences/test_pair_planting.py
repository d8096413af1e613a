"""Pairs that are swapped on purpose: which, how many, and what is left of the others."""

import json

import pytest

from preftrace.preferences import PreferencesConfig, load_pairs, prepare
from preftrace.preferences.planting import plant
from preftrace.types import Pair


def pairs(n, **meta):
    return [
        Pair(id=f"p{k}", prompt=f"q{k}", chosen=f"good {k}", rejected=f"bad {k}", source="columns", row=k, meta=meta)
        for k in range(n)
    ]


def flipped(found):
    return [pair.id for pair in found if pair.meta.get("planted") == "flip"]


def test_a_share_is_swapped_and_marked_and_the_rest_is_untouched():
    before = pairs(40, topic="x")
    after = plant(before, 0.05, seed=3)
    assert len(flipped(after)) == 2
    for old, new in zip(before, after, strict=True):
        if new.id in flipped(after):
            assert (new.id, new.prompt, new.chosen, new.rejected) == (old.id, old.prompt, old.rejected, old.chosen)
            assert new.meta == {"topic": "x", "planted": "flip"}
        else:
            assert new == old
    assert plant(before, 0.0, seed=3) == before


def test_the_draw_is_seeded_and_added_pairs_move_few():
    assert flipped(plant(pairs(40), 0.25, 1)) == flipped(plant(pairs(40), 0.25, 1))
    assert flipped(plant(pairs(40), 0.25, 1)) != flipped(plant(pairs(40), 0.25, 2))
    small, large = (set(flipped(plant(pairs(n), 0.25, 1))) for n in (40, 44))
    assert len(small - large) <= 3


def test_what_is_planted_already_or_has_equal_answers_is_left_alone():
    same = [Pair(id="same", prompt="q", chosen="a", rejected="a", source="columns", row=0)]
    before = [*pairs(10, planted="toxicity"), *same]
    assert plant(before, 0.9, 0) == before


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = [{"prompt": f"q{k}", "chosen": f"good {k}", "rejected": f"bad {k}"} for k in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_pairs_stage_plants_in_the_training_split_only(data, tmp_path):
    config = PreferencesConfig(source="columns", path=data, holdout=0.3, plant=0.2)
    record = prepare(config, 0, tmp_path / "pairs")
    train, holdout = load_pairs(tmp_path / "pairs", "train"), load_pairs(tmp_path / "pairs", "holdout")
    assert holdout and not flipped(holdout)
    assert record.summary["planted"] == len(flipped(train)) == round(0.2 * len(train))
    assert all(pair.chosen.startswith("bad") == (pair.id in flipped(train)) for pair in train)


def test_planting_is_part_of_the_identity_and_so_is_its_seed(data, tmp_path):
    def made(name, seed=0, **options):
        return prepare(PreferencesConfig(source="columns", path=data, **options), seed, tmp_path / name)

    plain = made("plain")
    assert "planted" not in plain.summary and made("other", seed=1).identity == plain.identity
    assert len({plain.identity, made("a", plant=0.1).identity, made("b", seed=1, plant=0.1).identity}) == 3
