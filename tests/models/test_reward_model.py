"""Reward models: where the reward is read, that batches do not matter, and that what is saved comes back the same."""

from __future__ import annotations

import pytest
import torch

from preftrace import models
from preftrace.config import AdapterConfig
from preftrace.errors import ModelError
from preftrace.models import adapters
from preftrace.models.packing import backbone
from preftrace.models.prompts import Encoded
from preftrace.models.reward import HEAD
from preftrace.types import Checkpoint

ROWS = [Encoded((5, 6, 7), (8, 9, 256), False), Encoded((5,), (256,), False), Encoded((5, 6), (40, 41, 42, 43), False)]


def naive(rm, row):
    """One row by itself: the last hidden state times the head."""
    ids = torch.tensor([row.prompt_ids + row.answer_ids])
    with torch.no_grad():
        states = backbone(rm)(input_ids=ids).last_hidden_state
        return float(rm.head(states)[0, -1, 0])


def trained(rm, seed=1):
    """The reward model with an adapter whose B is not zero."""
    from peft import get_peft_model

    torch.manual_seed(seed)
    wrapped = get_peft_model(rm.model, adapters.lora_config(AdapterConfig(r=2, alpha=4), HEAD))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return models.RewardModel(wrapped.eval(), rm.tokenizer, rm.format)


def test_a_batch_gives_what_each_row_gives_alone(tiny):
    """Rows of unlike length are padded; the reward is still read at each one's own last token."""
    rm = models.to_reward_model(tiny, seed=0)
    with torch.no_grad():
        batch = models.rewards(rm, ROWS)
    assert batch.tolist() == pytest.approx([naive(rm, row) for row in ROWS], abs=1e-5)
    assert models.row_rewards(rm, ROWS, batch_tokens=4).tolist() == pytest.approx(batch.tolist(), abs=1e-5)


def test_the_end_token_counts_even_where_it_is_the_padding_too(tiny):
    """transformers' own classifier would read the token before it."""
    tiny.tokenizer.pad_token = tiny.tokenizer.eos_token
    rm = models.to_reward_model(tiny, seed=0)
    with_end, without = Encoded((5, 6), (7, 256), False), Encoded((5, 6), (7,), False)
    values = models.row_rewards(rm, [with_end, without])
    assert values.tolist() == pytest.approx([naive(rm, with_end), naive(rm, without)], abs=1e-5)
    assert abs(values[0] - values[1]) > 1e-3


def test_the_head_comes_from_its_seed(tiny):
    """Standard deviation 1 / sqrt(d + 1) at d = 32; the global generator is left alone."""
    torch.manual_seed(0)
    state = torch.get_rng_state()
    heads = [models.to_reward_model(tiny, seed).head.weight.clone() for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert heads[0].std().item() == pytest.approx(33**-0.5, rel=0.35)


def test_a_saved_reward_model_comes_back_the_same(tiny, tiny_folder, tmp_path):
    """Adapter and head."""
    rm = trained(models.to_reward_model(tiny, seed=0))
    before = models.row_rewards(rm, ROWS)
    adapters.save_adapter(rm.model, tmp_path / "adapter")
    again = models.load_reward(Checkpoint(str(tiny_folder), (str(tmp_path / "adapter"),)))
    assert models.row_rewards(again, ROWS).tolist() == before.tolist()


def test_a_reward_model_is_no_policy_and_a_policy_no_reward_model(tiny, tiny_folder, tmp_path):
    """Either is said, instead of a model with a random head or a random output layer."""
    adapters.save_adapter(trained(models.to_reward_model(tiny, seed=0)).model, tmp_path / "reward")
    with pytest.raises(ModelError, match="is a reward model's"):
        models.load(Checkpoint(str(tiny_folder), (str(tmp_path / "reward"),)))
    plain = models.load(Checkpoint(str(tiny_folder)))
    adapters.save_adapter(adapters.attach(plain.model, AdapterConfig(r=2), 0), tmp_path / "policy")
    with pytest.raises(ModelError, match="has no reward head"):
        models.load_reward(Checkpoint(str(tiny_folder), (str(tmp_path / "policy"),)))


def test_a_whole_reward_model_comes_back_the_same_and_is_no_policy(tiny, tmp_path):
    """Full fine-tuning saves a sequence classifier."""
    rm = models.to_reward_model(tiny, seed=0)
    before = models.row_rewards(rm, ROWS)
    adapters.save_model(rm.model, rm.tokenizer, tmp_path / "whole")
    again = models.load_reward(Checkpoint(str(tmp_path / "whole")))
    assert models.row_rewards(again, ROWS).tolist() == before.tolist()
    with pytest.raises(ModelError, match="gives no answers"):
        models.load(Checkpoint(str(tmp_path / "whole")))
