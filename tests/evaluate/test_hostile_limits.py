"""What does not fit into the model, and what is killed half-way: refused or counted, and resumed to the same bytes."""

import json
import math
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from tests.conftest import build_model, build_tokenizer
from tests.evaluate.endpoint import hasty, perspective, serving
from tests.evaluate.hostile import refused, strict, tables, toxicity, typed

from preftrace import artifacts
from preftrace.evaluate.backends import hf

__all__ = ["hasty", "typed"]


@pytest.fixture(autouse=True)
def _forget_models():
    yield
    hf._load.cache_clear()


def learned_positions(folder, positions):
    """A model that has a vector for each place, and none beyond: it cannot be run past them at all."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": positions, "vocab_size": 258}
    GPT2LMHeadModel(GPT2Config(**shape, eos_token_id=256, bos_token_id=256)).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)


def rotary_positions(folder, positions):
    build_model(max_position_embeddings=positions).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)


@pytest.mark.parametrize("build", [learned_positions, rotary_positions])
def test_an_option_that_does_not_fit_behind_its_prompt_is_missing_and_counted(build, tmp_path, typed):
    build(tmp_path / "m", 40)
    # "Q: ", 27 letters and "\nA:" are 33 tokens; a space and six digits fill the 40.
    wrong = {"a?": "Tears.", "b" * 99: "Tears.", "d" * 27: "123456", "e" * 27: "1234567"}
    rows = [
        {"question": text, "mc1_targets": {"1": 1, "2": 0}, "mc2_targets": {"1": 1, other: 0}}
        for text, other in wrong.items()
    ]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    words = ("--source", "truthfulqa", "--path", tmp_path / "t.json", "--out", tmp_path / "o", "--json")
    code, out, err = typed("evaluate", tmp_path / "m", "--vertical", "truthfulness", *words)

    summary = strict(out)[0]["summary"]
    counted = {name: (m["n"], m["missing"]) for name, m in (("trust", summary["trust"]), *summary["metrics"].items())}
    assert code == 0 and counted == {"trust": (2, 2), "mc1": (3, 1), "mc2": (2, 2)}
    assert err.count("such options are missing") == 1
    options = artifacts.read_table(tmp_path / "o" / "m" / "truthfulness" / "options.parquet").to_pylist()
    lost = [row["text"] for row in options if math.isnan(row["logprob"])]
    assert len(options) == 12 and lost == ["1", "2", "Tears.", "1234567"]


@pytest.mark.parametrize("build", [learned_positions, rotary_positions])
@pytest.mark.parametrize(("letters", "new", "fits"), [(36, 4, True), (37, 4, False), (3, 38, False), (99, 1, False)])
def test_a_prompt_that_leaves_no_room_for_its_answer_is_refused_before_any_work(
    build, letters, new, fits, tmp_path, typed, monkeypatch
):
    build(tmp_path / "m", 40)
    rows = [{"prompt": {"text": text}} for text in ("a", "b" * letters)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("--source", "rtp", "--path", tmp_path / "p.jsonl", "--out", tmp_path / "o")
    more = ("--set", f"max_new_tokens={new}", "--set", "samples=1", "--set", "batch_size=1")
    done = typed("evaluate", tmp_path / "m", "--vertical", "toxicity", *words, *more)

    if fits:
        assert done[0] == 0
    else:
        assert f"a prompt has {letters} tokens, with {new} for its answer more than the 40" in refused(done)
        assert not list(tmp_path.glob("o/**/part-*"))


def kill_when(words, pattern, root):
    """Start the command in a process of its own and kill it as soon as a file of that name is there."""
    process = subprocess.Popen([sys.executable, "-m", "preftrace", *map(str, words)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(root.glob(pattern)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_a_kill_during_evaluate_and_rescore_changes_no_byte(tiny_folder, tmp_path, typed):
    asked = Counter()

    def slowly(path, body, headers):
        asked.update([body["comment"]["text"]])
        time.sleep(0.02)
        return 200, {}, perspective(len(body["comment"]["text"].encode()) / 1_000)

    more = ("--limit", 30, "--set", "samples=5", "--set", "batch_size=2")
    for place, killed in (("whole", False), ("killed", True)):
        words = toxicity(tiny_folder, tmp_path / place / "evaluate", *more)
        if killed:
            kill_when(words, "evaluate/tiny/toxicity.partial/_shards/part-00003/manifest.json", tmp_path / place)
        assert typed(*words)[0] == 0
    folders = [tmp_path / place / "evaluate" / "tiny" / "toxicity" for place in ("whole", "killed")]
    assert tables(folders[0]) == tables(folders[1])

    with serving(slowly) as url:
        words = ("rescore", folders[0], "--scorer", f"http:{url}/x", "--out")
        assert typed(*words, tmp_path / "r" / "whole")[0] == 0
        asked.clear()
        done = (*words, tmp_path / "r" / "killed")
        kill_when(done, "r/killed/tiny/toxicity.partial/_scores/part-00000/manifest.json", tmp_path)
        assert typed(*done)[0] == 0
    assert tables(tmp_path / "r/whole/tiny/toxicity") == tables(tmp_path / "r/killed/tiny/toxicity")
    assert sum(asked.values()) - len(asked) <= 64 < len(asked)
