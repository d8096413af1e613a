"""Prompt formats: what the model sees, and that a cut takes from the prompt and never from the answer."""

import pytest

from preftrace import models
from preftrace.types import Message, readable

TALK = (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Tea?"))


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return models.load_tokenizer(str(tiny_folder))


def text(tokenizer, ids):
    return tokenizer.decode(list(ids), skip_special_tokens=False)


def test_raw_leaves_a_text_as_it_is_and_writes_a_talk_as_a_transcript(tokenizer):
    assert models.render("Once upon ", tokenizer, "raw") == "Once upon "
    assert readable(TALK) == "Be kind.\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Tea?\n\nAssistant:"


def test_chat_is_the_tokenizers_template_and_a_text_is_one_user_turn(tokenizer):
    assert models.render(TALK[:2], tokenizer, "chat") == "<system>Be kind.<eos>\n<user>Hi<eos>\n<assistant>"
    assert models.render("Hi", tokenizer, "chat") == "<user>Hi<eos>\n<assistant>"


def test_a_raw_answer_stands_apart_by_one_space_and_ends_with_the_end_token(tokenizer):
    row = models.encode(tokenizer, TALK, "Yes", "raw")
    assert text(tokenizer, row.prompt_ids) == readable(TALK)
    assert text(tokenizer, row.answer_ids) == " Yes<eos>" and row.answer_ids[-1] == tokenizer.eos_token_id
    assert not row.truncated
    assert text(tokenizer, models.encode(tokenizer, "a", "Yes", "raw", eos=False).answer_ids) == " Yes"
    assert text(tokenizer, models.encode(tokenizer, "a", "\nYes", "raw", eos=False).answer_ids) == "\nYes"


def test_a_chat_answer_ends_as_the_template_ends_a_turn_once(tokenizer):
    row = models.encode(tokenizer, "Hi", "Yes", "chat")
    assert text(tokenizer, row.answer_ids) == "Yes<eos>"
    assert text(tokenizer, models.encode(tokenizer, "Hi", "Yes", "chat", eos=False).answer_ids) == "Yes"


def test_an_empty_answer_is_its_end_token(tokenizer):
    assert models.encode(tokenizer, "Hi", "", "raw").answer_ids == (tokenizer.eos_token_id,)
    assert models.encode(tokenizer, "Hi", "", "raw", eos=False).answer_ids == ()


@pytest.mark.parametrize("format", ["raw", "chat"])
@pytest.mark.parametrize("max_length", [1, 5, 9, 12, 40])
def test_a_cut_takes_the_prompts_left_end_and_leaves_the_answer_whole(tokenizer, format, max_length):
    """One token for each byte; "answer" with its space and end is 8 tokens in raw, 7 in chat."""
    whole = models.encode(tokenizer, "abcdefghijklmnopqrst", "answer", format)
    cut = models.encode(tokenizer, "abcdefghijklmnopqrst", "answer", format, max_length)
    room = max(max_length - len(whole.answer_ids), 1)
    assert cut.answer_ids == whole.answer_ids
    assert cut.prompt_ids == whole.prompt_ids[-room:] and len(cut.prompt_ids) == min(room, len(whole.prompt_ids))
    assert cut.truncated == (room < len(whole.prompt_ids))


def test_answers_of_one_prompt_share_the_prompt_that_fits_the_longest(tokenizer):
    rows = models.encode_answers(tokenizer, "abcdefghij", ["x", "longer"], "raw", 12)
    assert {row.prompt_ids for row in rows} == {tuple(tokenizer("ghij")["input_ids"])}
    assert [text(tokenizer, row.answer_ids) for row in rows] == [" x<eos>", " longer<eos>"]
    assert all(row.truncated for row in rows)
    assert models.encode_answers(tokenizer, "ab", ["x", "y"], "raw", 12)[0] == models.encode(
        tokenizer, "ab", "x", "raw"
    )
