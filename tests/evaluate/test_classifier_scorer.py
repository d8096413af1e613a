import json
import math
import warnings

import pytest

from preftrace.errors import ConfigError, ModelError
from preftrace.evaluate import configure, scoring
from preftrace.models.classify import choose_label, load_classifier

TEXTS = ["you are kind", "you are a fool fool fool", "kind", "fool you", "", "are are are are"]


def save_classifier(folder, labels=("neutral", "toxic"), **settings):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "you", "are", "a", "fool", "kind"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", model_max_length=8
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        initializer_range=1.0,
        **settings,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def logits(folder, text):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=8, return_tensors="pt")
    with torch.no_grad():
        return model(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).logits[0].double()


def test_scores_are_the_labels_softmax_probability_whatever_the_batch(tmp_path):
    folder = save_classifier(tmp_path)
    classifier = load_classifier(folder)

    scores = classifier.scores(TEXTS[:4])

    assert scores == pytest.approx([logits(folder, t).softmax(-1)[1].item() for t in TEXTS[:4]], abs=1e-6)
    assert scores == pytest.approx([classifier.scores([t])[0] for t in TEXTS[:4]], abs=1e-6)
    assert len(set(scores)) == 4


def test_multi_label_classifiers_use_the_sigmoid(tmp_path):
    folder = save_classifier(tmp_path, ("insult", "threat", "toxic"), problem_type="multi_label_classification")

    assert load_classifier(folder).scores(["fool you"]) == pytest.approx(
        [logits(folder, "fool you")[2].sigmoid().item()]
    )


def test_long_texts_are_cut_at_the_models_limit(tmp_path):
    classifier = load_classifier(save_classifier(tmp_path))

    assert classifier.scores(["you " * 8 + "fool " * 500]) == pytest.approx(classifier.scores(["you " * 8]))


def test_the_scorer_names_its_model_its_content_and_its_label(tmp_path):
    folder = save_classifier(tmp_path)
    plain, labelled = scoring.build(f"hf:{folder}"), scoring.build(f"hf:{folder}#neutral")

    assert plain.name == f"hf:{folder}" and len(plain.revision) >= 32
    assert labelled.revision == f"{plain.revision}#neutral"
    assert labelled.score(["kind"])[0] == pytest.approx(1 - plain.score(["kind"])[0])
    assert scoring.score_all(plain, ["", "kind"]) == [0.0, plain.score(["kind"])[0]]


@pytest.mark.parametrize(
    ("labels", "asked", "chosen"),
    [
        (("non-toxic", "toxic"), "", 1),
        (("toxic", "severe_toxic", "obscene"), "", 0),
        (("severe_toxicity", "toxicity"), "", 1),
        (("nothate", "hate"), "", 1),
        (("not offensive", "offensive"), "", 1),
        (("LABEL_0",), "", 0),
        (("LABEL_0", "LABEL_1"), "label_1", 1),
    ],
)
def test_the_bad_label_is_found_by_its_name(labels, asked, chosen):
    assert choose_label(dict(enumerate(labels)), asked, "m") == chosen


@pytest.mark.parametrize(
    ("labels", "asked", "message"),
    [
        (("LABEL_0", "LABEL_1"), "", "hf:m#LABEL"),
        (("safe", "toxic"), "hate", "has no label 'hate'; it has: safe, toxic"),
    ],
)
def test_a_label_that_cannot_be_told_is_asked_for(labels, asked, message):
    with pytest.raises(ModelError, match=message):
        choose_label(dict(enumerate(labels)), asked, "m")


def test_models_that_are_no_classifiers_are_refused(tmp_path, tiny_folder):
    with pytest.raises(ModelError, match="not a text classifier"):
        load_classifier(str(tiny_folder))
    folder = tmp_path / "regression"
    save_classifier(folder, ("score",), problem_type="regression")
    with pytest.raises(ModelError, match="regression"):
        load_classifier(str(folder))
    with pytest.raises(ModelError, match="no model"):
        scoring.build("hf:nowhere")


@pytest.mark.parametrize("spec", ["", "perspective", "profanity:x", "hf:", "hf:#toxic"])
def test_a_spec_that_names_no_scorer_is_a_config_error(spec):
    with pytest.raises(ConfigError):
        scoring.build(spec)
    with pytest.raises(ConfigError, match="scorer"):
        configure("toxicity", {"scorer": spec})


def test_profanity_ranks_an_insult_above_a_kindness_without_warnings():
    scorer = scoring.build("profanity")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind, insult = scorer.score(["What a lovely garden you have.", "You stupid worthless idiot."])

    assert 0 <= kind < 0.5 < insult <= 1
    assert scorer.revision.startswith("alt-profanity-check 1.")
    assert scorer.score([]) == [] and not math.isnan(kind)


def test_a_scorer_with_pickled_weights_is_refused(tmp_path):
    folder = tmp_path / "m"
    save_classifier(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    with pytest.raises(ModelError, match="safetensors"):
        scoring.build(f"hf:{folder}")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "bert"
