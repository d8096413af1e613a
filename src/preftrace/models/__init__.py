"""The only room that imports transformers and peft: load, prompt formats, log-probs, sampling, adapters.

Importing it imports none of them; each name is fetched from its file when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preftrace.models.checkpoints import checkpoint_hash as checkpoint_hash
    from preftrace.models.checkpoints import fingerprint as fingerprint
    from preftrace.models.checkpoints import locate as locate
    from preftrace.models.checkpoints import read_checkpoint as read_checkpoint
    from preftrace.models.checkpoints import resolve_checkpoint as resolve_checkpoint
    from preftrace.models.checkpoints import write_checkpoint as write_checkpoint
    from preftrace.models.generate import Response as Response
    from preftrace.models.generate import end_ids as end_ids
    from preftrace.models.generate import sample as sample
    from preftrace.models.generate import sample_ids as sample_ids
    from preftrace.models.kept import read_kept as read_kept
    from preftrace.models.loading import LanguageModel as LanguageModel
    from preftrace.models.loading import load as load
    from preftrace.models.loading import load_tokenizer as load_tokenizer
    from preftrace.models.loading import most_positions as most_positions
    from preftrace.models.logprobs import answer_logprobs as answer_logprobs
    from preftrace.models.logprobs import answer_states as answer_states
    from preftrace.models.logprobs import completion_logprobs as completion_logprobs
    from preftrace.models.prefix import Prefix as Prefix
    from preftrace.models.prefix import compute_prefix as compute_prefix
    from preftrace.models.prompts import Encoded as Encoded
    from preftrace.models.prompts import answer_text as answer_text
    from preftrace.models.prompts import encode as encode
    from preftrace.models.prompts import encode_answers as encode_answers
    from preftrace.models.prompts import render as render
    from preftrace.models.recompute import checkpointed_layers as checkpointed_layers
    from preftrace.models.recompute import recomputing as recomputing
    from preftrace.models.reward import RewardModel as RewardModel
    from preftrace.models.reward import load_reward as load_reward
    from preftrace.models.reward import rewards as rewards
    from preftrace.models.reward import row_rewards as row_rewards
    from preftrace.models.reward import to_reward_model as to_reward_model

_HOME = {
    "checkpoints": (
        *("checkpoint_hash", "fingerprint", "locate", "read_checkpoint", "resolve_checkpoint", "write_checkpoint"),
    ),
    "generate": ("Response", "end_ids", "sample", "sample_ids"),
    "kept": ("read_kept",),
    "loading": ("LanguageModel", "load", "load_tokenizer", "most_positions"),
    "logprobs": ("answer_logprobs", "answer_states", "completion_logprobs"),
    "prefix": ("Prefix", "compute_prefix"),
    "prompts": ("Encoded", "answer_text", "encode", "encode_answers", "render"),
    "recompute": ("checkpointed_layers", "recomputing"),
    "reward": ("RewardModel", "load_reward", "rewards", "row_rewards", "to_reward_model"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
