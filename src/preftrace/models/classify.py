"""Text classifiers: the probability of one label, for any transformers sequence-classification model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from preftrace.errors import ModelError
from preftrace.models.checkpoints import fingerprint, locate

BAD = ("toxic", "hate", "offens", "abus", "profan", "insult", "obscen", "unsafe", "harm", "hurt")
HARMLESS = re.compile(
    r"^(?:not?|non|un|without|clean|neutral|safe|harmless)(?:[\s_-]|toxic|hate|offens|abus|harm|insult)"
)
BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Classifier:
    """A sequence-classification model in evaluation mode and the label whose probability is the score.

    Attributes:
        model: the transformers model.
        tokenizer: its tokenizer.
        label: index of the label.
        multi_label: labels are independent (sigmoid of each logit) rather than exclusive (softmax over them).
        max_length: longest text in tokens; what is longer is cut at its end.
        revision: content hash of the model's files, or the Hub's commit.
    """

    model: Any
    tokenizer: Any
    label: int
    multi_label: bool
    max_length: int
    revision: str

    def scores(self, texts: Sequence[str]) -> list[float]:
        """Probabilities of the label in [0, 1], one for each text, NaN where the model gave no number."""
        encoded = [self.tokenizer(t, truncation=True, max_length=self.max_length)["input_ids"] for t in texts]
        order = sorted(range(len(texts)), key=lambda i: (-len(encoded[i]), i))
        result = [float("nan")] * len(texts)
        while order:
            size = max(1, BATCH_TOKENS // max(len(encoded[order[0]]), 1))
            batch, order = order[:size], order[size:]
            for i, value in zip(batch, self._batch([encoded[i] for i in batch]), strict=True):
                result[i] = value
        return result

    def _batch(self, rows: list[list[int]]) -> list[float]:
        device = next(self.model.parameters()).device
        pad = self.tokenizer.pad_token_id
        width = max(max(len(row) for row in rows), 1)
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        with torch.inference_mode():
            logits = self.model(input_ids=ids, attention_mask=mask).logits.double()
        probabilities = logits.sigmoid() if self.multi_label else logits.softmax(-1)
        values: list[float] = probabilities[:, self.label].tolist()
        return values


def load_classifier(path: str, label: str = "") -> Classifier:
    """Load a text classifier from a Hub id or a folder, safetensors only.

    Args:
        path: Hub id (with an optional `@revision`) or folder.
        label: name of the label to score; empty: the one whose name says toxic, hate, offensive or the like.

    Raises:
        ModelError: it cannot be loaded, or has no such label.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source, revision = locate(path)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            source, revision=revision, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"cannot load the classifier '{path}': {first}") from error
    if info["missing_keys"]:
        raise ModelError(f"'{path}' is not a text classifier: it has no weights for {sorted(info['missing_keys'])[0]}")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return Classifier(
        model=model.eval().to(device),
        tokenizer=tokenizer,
        label=choose_label(model.config.id2label, label, path),
        multi_label=_is_multi_label(model.config, path),
        max_length=_max_length(model.config, tokenizer),
        revision=fingerprint(path),
    )


def choose_label(names: Mapping[int, str], label: str, path: str) -> int:
    """Index of the label to score.

    Raises:
        ModelError: `label` is not there, or no name says that it is the bad one.
    """
    folded = {index: name.strip().casefold() for index, name in names.items()}
    listed = ", ".join(str(name) for name in names.values())
    if label:
        found = [index for index, name in folded.items() if name == label.strip().casefold()]
        if not found:
            raise ModelError(f"the classifier '{path}' has no label '{label}'; it has: {listed}")
        return found[0]
    if len(folded) == 1:
        return next(iter(folded))
    for word in BAD:
        found = [i for i, name in folded.items() if word in name and not HARMLESS.match(name)]
        if found:
            return min(found, key=lambda i: (len(folded[i]), i))
    raise ModelError(
        f"cannot tell which label of the classifier '{path}' is the bad one; its labels are: {listed}. "
        f"Name it: hf:{path}#LABEL"
    )


def _is_multi_label(config: Any, path: str) -> bool:
    if config.problem_type == "regression":
        raise ModelError(f"the classifier '{path}' is a regression model; its outputs are not probabilities")
    return bool(config.problem_type == "multi_label_classification" or config.num_labels == 1)


def _max_length(config: Any, tokenizer: Any) -> int:
    # Models with learned positions lose up to two of them to padding; tokenizers that know the limit say so.
    positions = config.to_dict().get("max_position_embeddings") or 514
    return int(min(tokenizer.model_max_length, positions - 2))
