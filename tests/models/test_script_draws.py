"""Draws as the paper's scripts make them: beams, past the end, untouched text."""

import pytest
import torch

from preftrace import models
from preftrace.models.scripts import cut
from preftrace.types import Sampling

BEAMS = Sampling(samples=3, max_new_tokens=8, temperature=0.7, as_scripts=True, num_beams=3)


def test_a_draw_repeats_for_its_seed_whatever_stands_beside_it(tiny):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    both = models.sample(tiny, ["Hi", "Another"], BEAMS, [[1, 2, 3], [4, 5, 6]])

    assert models.sample(tiny, ["Another"], BEAMS, [[4, 0, 0]])[0] == both[1]
    assert models.sample(tiny, ["Another"], BEAMS, [[9, 5, 6]])[0] != both[1]
    assert torch.equal(torch.get_rng_state(), before), "the draw moved the generator that others use"


def test_beams_are_the_librarys(tiny):
    """The same call of the library, written out."""
    from transformers import GenerationConfig

    ids = torch.tensor([tiny.tokenizer("Hi")["input_ids"]])
    wanted = GenerationConfig(
        max_new_tokens=8,
        num_beams=3,
        num_return_sequences=3,
        do_sample=True,
        temperature=0.7,
        top_k=50,
        pad_token_id=257,
    )
    tiny.model.generation_config.eos_token_id, kept = None, tiny.model.generation_config.eos_token_id
    try:
        torch.manual_seed(5)
        rows = tiny.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=wanted)
    finally:
        tiny.model.generation_config.eos_token_id = kept

    found = models.sample(tiny, ["Hi"], BEAMS, [[5, 6, 7]])[0]

    assert [list(answer.ids) for answer in found] == rows[:, ids.shape[1] :].tolist()


def test_greedy_goes_on_past_the_end(tiny, monkeypatch):
    """With an end token that greedy decoding meets at once, the plain path stops there and this one does not."""
    first = models.sample(tiny, ["Hi"], Sampling(1, 6, 0.0), [[0]])[0][0].ids[0]
    monkeypatch.setattr(tiny.model.generation_config, "eos_token_id", [first, 256])

    plain = models.sample(tiny, ["Hi"], Sampling(1, 6, 0.0), [[0]])[0][0]
    scripts = models.sample(tiny, ["Hi"], Sampling(1, 6, 0.0, as_scripts=True), [[0]])[0][0]

    assert plain.ids == (first,) and plain.finished
    assert len(scripts.ids) == 6 and scripts.ids[0] == first and not scripts.finished
    assert scripts.text == tiny.tokenizer.decode(list(scripts.ids), skip_special_tokens=True)


@pytest.mark.parametrize(
    ("text", "left"),
    [(" a b. c\nd", " a b"), ("a.\nb. c", "a."), ("\na", ""), ("3.5 is it", "3.5 is it"), (". a", "")],
)
def test_text_is_cut_at_the_first_mark(text, left):
    assert cut(text, (". ", "\n")) == left
