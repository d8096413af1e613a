"""Rewards of others' models: what a model is shown, what is read, and that a batch changes nothing."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from preftrace import artifacts, rewards
from preftrace.errors import ConfigError, ModelError
from preftrace.models.classify import load_judge
from preftrace.rewards import Answer
from preftrace.types import Message
from tests.align.conftest import stage as stage
from tests.align.conftest import toy as toy
from tests.conftest import CHAT_TEMPLATE, build_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "you", "are", "a", "fool", "kind", "why"]
ANSWERS = [
    Answer("why", "you are kind", True),
    Answer("why are you a fool", "you fool you", True),
    Answer("you are", "", False),
    Answer((Message("user", "why are you kind"),), "a fool", False),
]


def encoder(folder, labels=("neutral", "toxic", "rude"), limit=32, **settings):
    """A random BERT classifier of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=limit, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        initializer_range=1.0,
        **settings,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def decoder(folder, template=None, pad: int | None = 257):
    """A random Llama with one output and one token for each byte; its end token is 256."""
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return llama(folder, 258, pad)


def llama(folder, size, pad):
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=pad,
        num_labels=1,
        initializer_range=0.5,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def alone(folder, text, special=True):
    """All logits that transformers itself gives for one text."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=special, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].double().tolist()


def scores(spec, answers=ANSWERS):
    return rewards.build(spec, "raw")(answers)


def test_a_named_label_gives_its_log_odds_for_the_answer_alone(tmp_path):
    folder = encoder(tmp_path)
    expected = []
    for answer in ANSWERS:
        neutral, toxic, rude = alone(folder, answer.text)
        expected.append(toxic - math.log(math.exp(neutral) + math.exp(rude)))
    assert scores(f"hf:{folder}#Toxic") == pytest.approx(expected, abs=1e-5)
    assert scores(f"hf:{folder}#-toxic") == pytest.approx([-value for value in expected], abs=1e-5)
    assert len({round(value, 3) for value in expected}) == len(ANSWERS)


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_outputs_that_stand_for_themselves_give_their_logit(tmp_path, problem):
    folder = encoder(tmp_path, problem_type=problem)
    assert scores(f"hf:{folder}#rude") == pytest.approx([alone(folder, a.text)[2] for a in ANSWERS], abs=1e-5)


@pytest.mark.parametrize("problem", [None, "regression"])
def test_a_model_with_one_output_scores_the_prompt_and_the_answer(tmp_path, problem):
    folder = encoder(tmp_path, ("LABEL_0",), problem_type=problem)
    texts = [
        "why you are kind",
        "why are you a fool you fool you",
        "you are ",
        "\n\nHuman: why are you kind\n\nAssistant: a fool",
    ]
    assert scores(f"hf:{folder}") == pytest.approx([alone(folder, text)[0] for text in texts], abs=1e-5)


def test_a_long_prompt_is_cut_from_the_left_and_the_answer_stays_whole(tmp_path):
    """Room for 8 tokens, [CLS] and [SEP] among them: 2 of the prompt's words and the answer's 4."""
    folder = encoder(tmp_path, ("LABEL_0",), limit=8)
    long = Answer("fool " * 40 + "why a", "you are a fool", True)
    assert scores(f"hf:{folder}", [long]) == pytest.approx([alone(folder, "why a you are a fool")[0]], abs=1e-5)


@pytest.mark.parametrize("template", [None, CHAT_TEMPLATE], ids=["text", "chat"])
@pytest.mark.parametrize("pad", [257, 256, None], ids=["pad", "pad is eos", "no pad"])
def test_a_batch_of_a_decoder_gives_what_transformers_gives_each_row_alone(tmp_path, template, pad):
    folder = decoder(tmp_path, template, pad)
    texts = [
        "why you are kind",
        "why are you a fool you fool you",
        "you are ",
        "\n\nHuman: why are you kind\n\nAssistant: a fool",
    ]
    if template:
        asked = ("why", "why are you a fool", "you are", "why are you kind")
        said = [answer.text for answer in ANSWERS]
        texts = [f"<user>{q}<eos>\n<assistant>{a}<eos>\n" for q, a in zip(asked, said, strict=True)]
    expected = [alone(folder, text, special=not template)[0] for text in texts]
    found = scores(f"hf:{folder}")
    assert found == pytest.approx(expected, abs=1e-5)
    assert min(abs(a - b) for a, b in pairwise(sorted(expected))) > 1e-3


@pytest.mark.parametrize("pad", [257, 256, None], ids=["pad", "pad is eos", "no pad"])
def test_rows_that_end_with_the_end_token_are_read_the_same_in_any_batch(tmp_path, pad):
    folder = decoder(tmp_path, pad=pad)
    texts = ["a<eos>", "abc<eos><eos>", "abcdefgh", "ab<eos>cd", "<eos>"]
    found = load_judge(folder).logits(texts)[:, 0].tolist()
    assert found == pytest.approx([alone(folder, text)[0] for text in texts], abs=1e-5)


def test_a_batch_that_uses_every_token_is_read_row_by_row(tmp_path):
    """No token is left to pad with."""
    folder = encoder(tmp_path)
    llama(folder, len(WORDS), None)
    texts = ["[PAD] you are a fool", "why [UNK] kind", "fool"]
    found = load_judge(folder).logits(texts)[:, 0].tolist()
    assert found == pytest.approx([alone(folder, text)[0] for text in texts], abs=1e-5)


def test_the_digest_is_of_the_models_content_and_the_label(tmp_path):
    folder, twin = encoder(tmp_path / "a"), encoder(tmp_path / "b")
    assert rewards.digest(f"hf:{folder}#toxic") == rewards.digest(f"hf:{twin}#toxic")
    others = [f"hf:{folder}", f"hf:{folder}#toxic", f"hf:{folder}#-toxic", f"hf:{folder}#rude"]
    others.append(f"hf:{encoder(tmp_path / 'c', hidden_act='relu')}#toxic")
    assert len({rewards.digest(spec) for spec in others}) == len(others)


def test_what_is_wrong_is_said(tmp_path, tiny_folder):
    folder = encoder(tmp_path / "m")
    with pytest.raises(ModelError, match=r"has 3 labels: neutral, toxic, rude\. Name .*#LABEL, .*#-LABEL"):
        scores(f"hf:{folder}")
    with pytest.raises(ModelError, match="has no label 'hate'; it has: neutral, toxic, rude"):
        scores(f"hf:{folder}#-hate")
    with pytest.raises(ModelError, match="not a text classifier"):
        scores(f"hf:{tiny_folder}")
    with pytest.raises(ModelError, match="no model 'nowhere'"):
        rewards.digest("hf:nowhere")
    for spec in ("hf:#toxic", f"hf:{folder}#", f"hf:{folder}#-"):
        with pytest.raises(ConfigError, match="is not hf:MODEL"):
            rewards.digest(spec)
    refusing = decoder(tmp_path / "strict", "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ModelError, match="roles must alternate"):
        scores(f"hf:{refusing}")


def test_a_model_that_gives_no_number_stops_it(tmp_path):
    from transformers import LlamaForSequenceClassification

    folder = decoder(tmp_path)
    broken = LlamaForSequenceClassification.from_pretrained(folder)
    broken.score.weight.data.fill_(math.nan)
    broken.save_pretrained(folder)
    with pytest.raises(ModelError, match="no finite number for 4 of 4 answers"):
        scores(f"hf:{folder}")


def test_ppo_is_trained_on_it(stage, toy, tmp_path):
    folder = encoder(tmp_path / "judge")
    small = {"rollouts": 4, "max_new_tokens": 4, "epochs": 0.8, "batch_size": 2, "log_answers": 4}
    record = stage("ppo", toy, reward=f"hf:{folder}#-toxic", **small)
    kept = artifacts.read_table(record.folder / "answers.parquet").to_pylist()
    assert record.summary["steps"] == 2 and len(kept) == 8
    again = scores(f"hf:{folder}#-toxic", [Answer("", row["answer"], False) for row in kept])
    assert [row["reward"] for row in kept] == pytest.approx(again, abs=1e-4)
