"""Prompt strings from a file of the user's: read to the letter, and every fault told."""

import json

import pytest

from preftrace.errors import ConfigError, DataError
from preftrace.evaluate import configure
from preftrace.evaluate.prompts import fill, phrases, read_prompts

KEYS = {"prompt": ("statement",), "refusals": ()}
GOOD = {"stereotypes": {"prompt": " Say {statement} {0} ", "refusals": "i am\nno ", "more": 1}}


@pytest.mark.parametrize("name", ["p.json", "p.yaml"])
def test_strings_are_read_to_the_letter(tmp_path, name):
    """JSON is YAML too."""
    (tmp_path / name).write_text(json.dumps(GOOD))

    found = read_prompts(str(tmp_path / name), "stereotypes", KEYS)

    assert found == {"prompt": " Say {statement} {0} ", "refusals": "i am\nno "}
    assert fill(found["prompt"], statement="{statement} {x}") == " Say {statement} {x} {0} "
    assert phrases(found["refusals"]) == ["i am", "no "]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n", "needs a mapping 'stereotypes' with: prompt with {statement}, refusals"),
        ("stereotypes: x\n", "needs a mapping 'stereotypes'"),
        ("stereotypes: {prompt: [", "not YAML"),
        ("stereotypes: {prompt: a}\n", "'stereotypes.prompt' lacks {statement}; 'stereotypes.refusals' is missing"),
        ("stereotypes: {prompt: '{statement} {act}', refusals: 3}\n", "has an unknown {act}; 'stereotypes.refusals' m"),
        ("\x00", "not YAML"),
    ],
)
def test_every_fault_of_the_file_is_told(tmp_path, content, message):
    path = tmp_path / "p.yaml"
    path.write_text(content)

    with pytest.raises(DataError) as caught:
        read_prompts(str(path), "stereotypes", KEYS)

    assert message in str(caught.value) and str(path) in str(caught.value)


def test_no_file_and_an_absent_file_are_told(tmp_path):
    with pytest.raises(DataError, match=r"prompts:.*below 'stereotypes': prompt with \{statement\}, refusals"):
        read_prompts(None, "stereotypes", KEYS)
    with pytest.raises(DataError, match=r"absent\.yaml: cannot be read.*prompts:"):
        read_prompts(str(tmp_path / "absent.yaml"), "stereotypes", KEYS)


def test_the_files_place_is_not_part_of_a_result():
    here, there = (configure("ethics", {"protocol": "paper", "prompts": path}) for path in ("a.yaml", "b.yaml"))

    assert here.identity() == there.identity() != configure("ethics").identity()


def test_beams_are_the_papers_and_give_at_most_as_many_samples():
    with pytest.raises(ConfigError, match="num_beams 2 gives at most 2 samples, not 5"):
        configure("toxicity", {"protocol": "paper", "num_beams": 2})
    with pytest.raises(ConfigError, match="needs protocol paper"):
        configure("toxicity", {"num_beams": 5})
    assert configure("toxicity", {"protocol": "paper", "num_beams": 6}).sampling.num_beams == 6


def test_what_the_user_says_goes_before_the_papers_defaults():
    config = configure("toxicity", {"protocol": "paper", "max_new_tokens": 7})

    assert (config.max_new_tokens, config.samples, config.temperature) == (7, 5, 0.7)
    assert configure("toxicity", config.model_dump()) == config
