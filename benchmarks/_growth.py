"""What grows with the number of pairs, on a small model: peak memory of both modes, and a store's bytes in 8 bits."""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import number_of_a_process, peak_rss_mib
from _pairs import passes_of, random_queries
from _scores import METHOD, built

from preftrace import models, preferences, progress
from preftrace.attribute.capture import Capture
from preftrace.attribute.stored import score
from preftrace.config import AdapterConfig
from preftrace.models import adapters
from preftrace.types import Checkpoint, Pair, readable

FEW, MANY, TOP = 400, 1600, 100
WIDTH, LAYERS, VOCABULARY = 64, 4, 4096
TOKENS = 64


def measured(script: str) -> dict[str, Any]:
    """The keys of the JSON; each memory is the peak of a fresh process."""
    growth = {}
    for mode in ("streaming", "store"):
        few, many = (number_of_a_process(script, ["--peak-of", mode, str(count)]) for count in (FEW, MANY))
        growth |= {f"rss_growth_{mode}": many / few - 1, f"peak_rss_mib_{mode}": {FEW: few, MANY: many}}
    return growth | _in_8_bits()


def peak(mode: str, count: int) -> float:
    """MiB of this process after scoring `count` pairs."""
    progress.quiet = True
    home = Path(tempfile.mkdtemp(prefix="preftrace-bench-"))
    checkpoint, queries = small(home)
    passes = passes_of(checkpoint, pairs(count), None, home / "work", methods=(METHOD,), mode=mode, cache_gb=0)
    if mode == "store":
        score(built(passes), queries, (METHOD,), 0.1)
    else:
        passes.score(queries)
    return peak_rss_mib()


def _in_8_bits() -> dict[str, float]:
    home = Path(tempfile.mkdtemp(prefix="preftrace-bench-"))
    checkpoint, queries = small(home)
    found = {}
    for kind in ("bf16", "int8"):
        settings = {"methods": (METHOD,), "mode": "store", "store_dtype": kind}
        store = built(passes_of(checkpoint, pairs(MANY), None, home / kind, **settings))
        files = [*store.record.folder.glob("part-*/rows.safetensors"), *store.record.folder.glob("part-*/scales.*")]
        tops = np.argsort(-score(store, queries, (METHOD,), 0.1).scores[METHOD], axis=0)[:TOP]
        found[kind] = sum(file.stat().st_size for file in files), tops
    (wide, wanted), (narrow, tops) = found["bf16"], found["int8"]
    shared = [len(set(a) & set(b)) / TOP for a, b in zip(tops.T, wanted.T, strict=True)]
    return {"int8_bytes_ratio": narrow / wide, "int8_top100_overlap": min(shared)}


def small(home: Path) -> tuple[Checkpoint, dict[str, np.ndarray]]:
    """A small random model with a random adapter in a folder, and queries of its adapter."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        eos_token_id=VOCABULARY - 1,
        pad_token_id=0,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(home / "model")
    _tokenizer().save_pretrained(home / "model")
    lm = models.load(Checkpoint(str(home / "model")), device="cpu", precision="float32")
    wrapped = adapters.attach(lm.model, AdapterConfig(), 0)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)
    adapters.save_adapter(wrapped, home / "adapter")
    checkpoint = Checkpoint(str(home / "model"), (str(home / "adapter"),))
    with Capture(models.load(checkpoint)) as capture:
        return checkpoint, random_queries(capture.shapes, 0)


def _tokenizer() -> Any:
    """A token for each character."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    characters = {chr(code): code for code in range(1, VOCABULARY - 1)}
    vocabulary = characters | {"<unk>": 0, "<eos>": VOCABULARY - 1}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<unk>", unk_token="<unk>")


def pairs(count: int) -> list[Pair]:
    """The starter's pairs over again, with a number so that none is like another, and every text of the same length.

    With lengths of their own the fullest batch of many pairs would be larger than that of few.
    """
    starter = preferences.read_pairs(preferences.PreferencesConfig(source="starter"))
    several = itertools.islice(itertools.cycle(list(starter)), count)
    return [
        Pair(
            id=f"{i}",
            prompt=f"{i:06} {_as_long(readable(pair.prompt))}",
            chosen=_as_long(pair.chosen),
            rejected=_as_long(pair.rejected),
            source="bench",
            row=i,
        )
        for i, pair in enumerate(several)
    ]


def _as_long(text: str) -> str:
    return (text * TOKENS)[:TOKENS]


if __name__ == "__main__":
    sys.exit("run benchmarks/attribution.py")
