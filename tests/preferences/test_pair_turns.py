"""The split of two transcripts by turns, against the way the transcripts were made."""

import numpy as np
import pytest

from preftrace.preferences import PreferencesConfig
from preftrace.preferences.sources import hh
from preftrace.preferences.turns import common
from preftrace.types import Message, readable, transcript

CONFIG = PreferencesConfig(source="hh", path="unused.jsonl")
WORDS = ("I'm", "sorry", "yes", "no", "Human", "Assistant:", "a\n\nb", "—", "the", "I'm not")


def read(chosen: str, rejected: str):
    return hh.read({"chosen": chosen, "rejected": rejected}, CONFIG)


def said(generator: np.random.Generator) -> str:
    return " ".join(generator.choice(WORDS, size=generator.integers(1, 6)))


def dialogue(generator: np.random.Generator, exchanges: int) -> str:
    turns = [f"\n\nHuman: {said(generator)}\n\nAssistant: {said(generator)}" for _ in range(exchanges)]
    return "".join(turns) + f"\n\nHuman: {said(generator)}\n\nAssistant:"


@pytest.mark.parametrize("seed", range(50))
def test_a_prompt_and_two_answers_put_together_come_apart_again(seed):
    generator = np.random.default_rng(seed)
    prompt = dialogue(generator, int(generator.integers(0, 4)))
    first, second = said(generator) + " one", said(generator) + " two"
    draft = read(f"{prompt} {first}", f"{prompt} {second}")
    assert (readable(draft.prompt), draft.chosen, draft.rejected) == (prompt, first, second)
    assert draft.flags == ()


@pytest.mark.parametrize("seed", range(20))
def test_words_that_both_answers_begin_with_stay_in_the_answers(seed):
    generator = np.random.default_rng(seed)
    prompt, start = dialogue(generator, 1), "I'm " + said(generator)
    draft = read(f"{prompt} {start} glad", f"{prompt} {start}")
    assert (draft.chosen, draft.rejected) == (f"{start} glad", start)


@pytest.mark.parametrize("seed", range(20))
def test_the_answers_are_the_first_turns_that_differ_where_dialogues_part_early(seed):
    generator = np.random.default_rng(seed)
    prompt, more = dialogue(generator, 2), dialogue(generator, 1)
    draft = read(f"{prompt} one{more} end", f"{prompt} two")
    assert (readable(draft.prompt), draft.chosen, draft.rejected) == (prompt, "one", "two")
    assert draft.flags == ("fork",)


def test_an_assistant_turn_that_follows_an_assistant_turn_is_a_fork():
    draft = read("\n\nHuman: q\n\nAssistant: a\n\nAssistant: b", "\n\nHuman: q\n\nAssistant: c")
    assert (draft.chosen, draft.rejected, draft.flags) == ("a", "c", ("fork",))


def test_equal_transcripts_split_before_the_last_answer():
    draft = read(*["\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: b"] * 2)
    assert draft.prompt == (Message("user", "q"), Message("assistant", "a"), Message("user", "r"))
    assert (draft.chosen, draft.rejected, draft.flags) == ("b", "b", ())


def test_an_answer_may_be_empty_on_one_side():
    draft = read("\n\nHuman: q\n\nAssistant:", "\n\nHuman: q\n\nAssistant: a")
    assert (draft.chosen, draft.rejected, draft.flags) == ("", "a", ())


def test_dialogues_that_part_in_a_human_turn_share_only_the_answer_before_it():
    draft = read("\n\nHuman: q\n\nAssistant: a\n\nHuman: x\n\nAssistant: b", "\n\nHuman: q\n\nAssistant: a\n\nHuman: y")
    assert (draft.chosen, draft.rejected, draft.flags) == ("a", "a", ("malformed", "fork"))


def test_a_transcript_that_ends_on_a_human_turn_is_malformed():
    draft = read("\n\nHuman: q\n\nAssistant: a\n\nHuman: bye", "\n\nHuman: q\n\nAssistant: b")
    assert draft.flags == ("malformed", "fork")


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("\n\nHuman: q", "\n\nHuman: q"),
        ("\n\nHuman: q\n\nAssistant: a", "\n\nHuman: other\n\nAssistant: a"),
        ("\n\nAssistant: a", "\n\nAssistant: b"),
        ("\n\nHuman: q\n\nAssistant: a", "\n\nHuman: q"),
        ("no marker", "\n\nHuman: q\n\nAssistant: a"),
        ("", ""),
    ],
)
def test_without_a_shared_question_nothing_is_lost_and_the_row_is_malformed(chosen, rejected):
    draft = read(chosen, rejected)
    assert draft.flags == ("malformed",)
    assert transcript(draft.prompt) + draft.chosen == chosen
    assert transcript(draft.prompt) + draft.rejected == rejected


def test_text_before_the_first_turn_is_the_system_message():
    draft = read("Be kind.\n\nHuman: q\n\nAssistant: a", "Be kind.\n\nHuman: q\n\nAssistant: b")
    assert draft.prompt == (Message("system", "Be kind."), Message("user", "q"))
    assert readable(draft.prompt) == "Be kind.\n\nHuman: q\n\nAssistant:"


def test_a_marker_needs_an_empty_line_before_it_unless_the_text_starts_with_it():
    assert hh.turns("Human: q\n\nAssistant: no.  Human: what?\nHuman: again") == (
        Message("user", "q"),
        Message("assistant", "no.  Human: what?\nHuman: again"),
    )


def test_common_counts_whole_turns():
    a, b, c = (Message("user", text) for text in "abc")
    assert common((a, b), (a, c)) == 1
    assert common((a,), (a, b)) == 1
    assert common((), (a,)) == 0
