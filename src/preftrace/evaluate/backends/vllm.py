"""The vLLM engine in this process (arXiv 2309.06180): paged attention, continuous batches, adapters as LoRA requests.

Written against vLLM's documented interface (`LLM.generate`, `SamplingParams`, `LoRARequest`). Prompts are sent as the
tokens that `hf` would use, so that an option's log-likelihood is of the same tokens.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from preftrace import artifacts, models
from preftrace.errors import ConfigError, ModelError
from preftrace.evaluate.backend import Answer, Backend, BackendConfig, Identity, OptionScore, Target
from preftrace.models.adapters import save_model
from preftrace.models.prompts import RAW_STOP
from preftrace.types import Checkpoint, Prompt, Sampling

VERSION = 1
LOCAL = True
DTYPES = {"auto": "bfloat16", "bfloat16": "bfloat16", "float32": "float32"}
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM takes for its highest LoRA rank."""


class Config(BackendConfig):
    """How vLLM uses the machine."""

    SPEED: ClassVar[frozenset[str]] = frozenset({"gpu_memory_utilization"})

    name: Literal["vllm"] = Field("vllm", description="vLLM's engine, in this process")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="share of the GPU's memory that vLLM takes")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share the model")
    max_model_len: int | None = Field(
        None, ge=1, description="longest prompt with its answer in tokens; none: the model's own"
    )


def identify(config: Config, checkpoint: Checkpoint, stage: str, format: str, known: str | None) -> Identity:
    """The content hash of the checkpoint's files."""
    return Identity(known or models.checkpoint_hash(checkpoint), {})


def build(config: Config, target: Target) -> Backend:
    """The engine with the checkpoint's weights.

    Raises:
        ConfigError: vLLM is not installed, or cannot run what is asked.
        ModelError: vLLM does not load the model.
    """
    if target.precision not in DTYPES:
        raise ConfigError([f"backend vllm: precision must be one of {', '.join(DTYPES)}, not {target.precision}"])
    try:
        import vllm as engine
    except ImportError as error:
        words = f"backend vllm needs vLLM ({error}): pip install 'preftrace[vllm]', or use backend: hf"
        raise ConfigError([words]) from error
    return Engine(engine, config, target)


class Engine:
    """One checkpoint in vLLM. The one before it is let go first: a GPU seldom holds two.

    Args:
        vllm: the library.
        config: the settings.
        target: what is evaluated.
    """

    _held: ClassVar[dict[str, Any]] = {}

    def __init__(self, vllm: Any, config: Config, target: Target) -> None:
        self.vllm, self.format = vllm, target.format
        checkpoint = target.checkpoint
        self.tokenizer = models.load_tokenizer(checkpoint.model, target.format)
        adapter = checkpoint.adapters[-1] if checkpoint.adapters else None
        self.lora = self._request(adapter)
        key = artifacts.hash_json([target.model_hash, target.precision, config.model_dump()])
        if key not in self._held:
            self._held.clear()
            self._held[key] = self._load(config, target, adapter)
        self.llm = self._held[key]

    def _request(self, adapter: str | None) -> Any:
        if adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest(Path(adapter).name, 1, adapter)

    def _load(self, config: Config, target: Target, adapter: str | None) -> Any:
        settings = {
            "dtype": DTYPES[target.precision],
            "seed": 0,
            "gpu_memory_utilization": config.gpu_memory_utilization,
            "tensor_parallel_size": config.tensor_parallel_size,
            "max_model_len": config.max_model_len,
            **({"enable_lora": True, "max_lora_rank": highest_rank(Path(adapter))} if adapter else {}),
        }
        source, revision = models.locate(target.checkpoint.model)
        earlier = target.checkpoint.adapters[:-1]
        try:
            if not earlier:
                return self.vllm.LLM(model=source, revision=revision, **settings)
            with tempfile.TemporaryDirectory(prefix="preftrace-vllm-") as folder:
                # The engine takes one adapter: those before it become part of the weights, as where it was trained.
                merged = Checkpoint(target.checkpoint.model, earlier)
                lm = models.load(merged, merge=True, device="cpu", precision="float32")
                save_model(lm.model, lm.tokenizer, Path(folder))
                return self.vllm.LLM(model=folder, **settings)
        except (ValueError, RuntimeError, OSError) as error:
            raise ModelError(f"vLLM does not load '{target.checkpoint.model}': {error}") from error

    def render(self, prompts: Sequence[Prompt]) -> list[str]:
        """The text that is tokenised."""
        return [models.render(prompt, self.tokenizer, self.format) for prompt in prompts]

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, seeds: Sequence[Sequence[int]]
    ) -> list[list[Answer]]:
        """All answers at once, each with its own seed; they share the cache of their prompt."""
        rows, wanted = [], []
        for prompt, own in zip(prompts, seeds, strict=True):
            stop = [RAW_STOP] if self.format == "raw" and not isinstance(prompt, str) else None
            ids = list(models.encode(self.tokenizer, prompt, "", self.format, eos=False).prompt_ids)
            for seed in own[: sampling.samples]:
                rows.append(ids)
                wanted.append(
                    self.vllm.SamplingParams(
                        n=1,
                        temperature=sampling.temperature,
                        top_p=1.0,
                        max_tokens=sampling.max_new_tokens,
                        seed=seed,
                        stop=stop,
                    )
                )
        drawn = iter([output.outputs[0] for output in self._generate(rows, wanted)])
        return [[_answer(next(drawn)) for _ in own[: sampling.samples]] for own in seeds]

    def logprobs(self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]) -> list[list[OptionScore]]:
        """The log-probabilities of a prompt and an option, of which the option's are summed."""
        rows = [
            models.encode(self.tokenizer, prompt, option, self.format, eos=False)
            for prompt, own in zip(prompts, options, strict=True)
            for option in own
        ]
        wanted = self.vllm.SamplingParams(n=1, temperature=0.0, max_tokens=1, prompt_logprobs=1)
        outputs = self._generate([[*row.prompt_ids, *row.answer_ids] for row in rows], [wanted] * len(rows))
        scores = iter([_option_score(out, row) for out, row in zip(outputs, rows, strict=True)])
        return [[next(scores) for _ in own] for own in options]

    def _generate(self, rows: Sequence[list[int]], wanted: Sequence[Any]) -> list[Any]:
        given = [{"prompt_token_ids": ids} for ids in rows]
        try:
            return list(self.llm.generate(given, list(wanted), lora_request=self.lora, use_tqdm=False))
        except ValueError as error:
            raise ModelError(f"vLLM refuses a prompt: {error}") from error


def highest_rank(adapter: Path) -> int:
    """The least rank that vLLM can be set to and that holds an adapter.

    Raises:
        ConfigError: the adapter's rank is higher than any.
    """
    said = artifacts.read_json(adapter / "adapter_config.json")
    rank = max(said["r"], *said.get("rank_pattern", {}).values(), 1)
    fits = [known for known in RANKS if known >= rank]
    if not fits:
        raise ConfigError([f"backend vllm: {adapter} has rank {rank}, and vLLM takes {RANKS[-1]} at most; use hf"])
    return fits[0]


def _answer(output: Any) -> Answer:
    return Answer(output.text.strip(), tuple(output.token_ids), output.finish_reason != "length")


def _option_score(output: Any, row: models.Encoded) -> OptionScore:
    told = output.prompt_logprobs[len(row.prompt_ids) :]
    values = [float(at[token].logprob) for at, token in zip(told, row.answer_ids, strict=True)]
    return OptionScore(sum(values) if values else math.nan, len(row.answer_ids))
