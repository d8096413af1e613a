"""The vLLM backend against a stand-in with vLLM's documented interface that runs the tiny model; not vLLM itself."""

import json
import sys
import types
from dataclasses import dataclass

import pytest

from preftrace import models
from preftrace.errors import ConfigError
from preftrace.evaluate import Evaluation, configure, run
from preftrace.evaluate import backend as backends
from preftrace.evaluate.backends import hf
from preftrace.evaluate.backends import vllm as backend
from preftrace.models.loading import load_adapter
from preftrace.types import Checkpoint, Sampling

NAMED = types.SimpleNamespace


@dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 16
    seed: int | None = None
    stop: list[str] | None = None
    prompt_logprobs: int | None = None


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


class LLM:
    """Runs a folder's model as vLLM would; `made` are the settings of all that were made."""

    made: list = []  # noqa: RUF012

    def __init__(self, model, *, revision=None, dtype="auto", seed=0, enable_lora=False, max_lora_rank=16, **machine):
        assert set(machine) == {"gpu_memory_utilization", "tensor_parallel_size", "max_model_len"}
        self.lm, self.lora, self.adapted = models.load(Checkpoint(model), precision=dtype), enable_lora, None
        LLM.made.append(NAMED(model=model, dtype=dtype, enable_lora=enable_lora, max_lora_rank=max_lora_rank))

    def generate(self, prompts, sampling_params, *, lora_request=None, use_tqdm=True):
        assert (lora_request is not None) == self.lora and len(prompts) == len(sampling_params)
        if lora_request is not None and self.adapted is None:
            self.adapted = lora_request.lora_path
            self.lm = models.LanguageModel(load_adapter(self.lm.model, self.adapted).eval(), self.lm.tokenizer, "raw")
        assert lora_request is None or lora_request.lora_path == self.adapted
        return [self._one(p["prompt_token_ids"], s) for p, s in zip(prompts, sampling_params, strict=True)]

    def _one(self, ids, wanted):
        import torch

        drawn = models.sample_ids(
            self.lm, [ids], Sampling(1, wanted.max_tokens, wanted.temperature), [[wanted.seed or 0]]
        )[0][0]
        ended = drawn[-1] in models.end_ids(self.lm)
        text = self.lm.tokenizer.decode(drawn[:-1] if ended else drawn)
        for stop in wanted.stop or ():
            text = text.split(stop)[0]
        told = None
        if wanted.prompt_logprobs is not None:
            with torch.inference_mode():
                table = self.lm.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
            told = [None] + [{t: NAMED(logprob=float(table[i, t]))} for i, t in enumerate(ids[1:])]
        output = NAMED(text=text, token_ids=drawn, finish_reason="stop" if ended else "length")
        return NAMED(outputs=[output], prompt_logprobs=told)


@pytest.fixture
def stand_in(monkeypatch):
    root, lora, request = (types.ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request"))
    root.LLM, root.SamplingParams, request.LoRARequest = LLM, SamplingParams, LoRARequest
    for module in (root, lora, request):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    LLM.made.clear()
    yield
    backend.Engine._held.clear()
    hf._load.cache_clear()


def adapted(tiny_folder, folder, seed):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("adapters", [0, 1, 2])
def test_the_engine_gives_what_transformers_gives(stand_in, tiny_folder, tmp_path, adapters):
    folders = tuple(adapted(tiny_folder, tmp_path / f"a{i}", i) for i in range(adapters))
    checkpoint = Checkpoint(str(tiny_folder), folders)
    config = configure("ethics", {"limit": 4, "batch_size": 2, "max_new_tokens": 4})
    more = {"precision": "float32"}
    mine = run(checkpoint, "ethics", config, tmp_path / "hf", **more)

    record = run(checkpoint, "ethics", config, tmp_path / "vllm", backend=backends.configure("vllm"), **more)

    ours, theirs = Evaluation(record), Evaluation(mine)
    assert list(ours.options().logprob) == pytest.approx(list(theirs.options().logprob), abs=1e-3)
    assert list(ours.options().tokens) == list(theirs.options().tokens)
    columns = ["item_id", "seed", "prompt", "response", "finished"]
    assert ours.frame()[columns].equals(theirs.frame()[columns])
    assert [list(ids) for ids in ours.frame().response_ids] == [list(ids) for ids in theirs.frame().response_ids]
    (made,) = LLM.made
    assert made.dtype == "float32" and made.enable_lora == bool(adapters)
    assert not adapters or made.max_lora_rank == 8
    assert (made.model == str(tiny_folder)) == (adapters < 2), "earlier adapters are merged into a copy"
    assert record.inputs["model"] == mine.inputs["model"] and record.identity != mine.identity


def test_two_verticals_share_an_engine_and_seeds_are_sent(stand_in, tiny_folder, tmp_path):
    given = {"backend": backends.configure("vllm"), "precision": "float32"}
    for vertical in ("toxicity", "privacy"):
        config = configure(vertical, {"limit": 2, "max_new_tokens": 3, "samples": 2})
        frame = Evaluation(run(Checkpoint(str(tiny_folder)), vertical, config, tmp_path / vertical, **given)).frame()
        assert len(frame) == 4 and len(set(frame.seed)) == 4
    assert len(LLM.made) == 1


def test_without_vllm_the_message_says_what_to_install(monkeypatch, tiny_folder, tmp_path):
    monkeypatch.setitem(sys.modules, "vllm", None)
    given = backends.configure("vllm")
    with pytest.raises(ConfigError, match=r"pip install 'preftrace\[vllm\]'"):
        run(Checkpoint(str(tiny_folder)), "toxicity", configure("toxicity"), tmp_path / "t", backend=given)
    with pytest.raises(ConfigError, match="precision must be one of auto, bfloat16, float32, not autocast"):
        run(
            Checkpoint(str(tiny_folder)),
            "toxicity",
            configure("toxicity"),
            tmp_path / "t",
            backend=given,
            precision="autocast",
        )


@pytest.mark.parametrize(("rank", "pattern", "most"), [(4, {}, 8), (8, {"q": 9}, 16), (300, {}, 320)])
def test_the_highest_rank_holds_the_adapter(tmp_path, rank, pattern, most):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank, "rank_pattern": pattern}))
    assert backend.highest_rank(tmp_path) == most


def test_a_rank_that_vllm_does_not_take_is_said(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"r": 1024}')
    with pytest.raises(ConfigError, match="rank 1024, and vLLM takes 512 at most"):
        backend.highest_rank(tmp_path)
