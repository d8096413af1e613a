"""Text classifiers and reward models of others: any transformers sequence-classification model, read as logits.

A row's logits are those that transformers gives for the row alone, whatever it is batched with. For a decoder this
needs care: transformers reads the last token that is not `config.pad_token_id`, which for many models is the end token.
Rows are therefore padded on the right with just that id, and where the model has none, with one that is in no row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
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
    """A sequence-classification model in evaluation mode and the label that is scored.

    Attributes:
        model: the transformers model.
        tokenizer: its tokenizer.
        label: index of the label.
        multi_label: outputs stand for themselves (sigmoid of each logit) rather than exclude one another (softmax).
        max_length: longest text in tokens; what is longer is cut.
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
        logits = torch.from_numpy(self.logits(texts))
        probabilities = logits.sigmoid() if self.multi_label else logits.softmax(-1)
        values: list[float] = probabilities[:, self.label].tolist()
        return values

    def log_odds(
        self, texts: Sequence[str], *, keep: Literal["start", "end"] = "start", special: bool = True
    ) -> list[float]:
        """Log-odds of the label against the others, one for each text: its logit where outputs stand for themselves.

        With exclusive labels, log p / (1 - p) = z_label - logsumexp of the other logits. `keep` and `special` are those
        of `logits`.
        """
        logits = torch.from_numpy(self.logits(texts, keep=keep, special=special))
        own = logits[:, self.label]
        if not self.multi_label:
            others = [i for i in range(logits.shape[1]) if i != self.label]
            own = own - logits[:, others].logsumexp(-1)
        values: list[float] = own.tolist()
        return values

    def logits(
        self, texts: Sequence[str], *, keep: Literal["start", "end"] = "start", special: bool = True
    ) -> np.ndarray:
        """All outputs for each text: `(n, outputs)` float64.

        Args:
            texts: n texts.
            keep: which part is kept of a text that is longer than the model's limit.
            special: whether the tokenizer adds its special tokens; a rendered chat template has them already.
        """
        self.tokenizer.truncation_side = "right" if keep == "start" else "left"
        options = {"truncation": True, "max_length": self.max_length, "add_special_tokens": special}
        rows = [self.tokenizer(text, **options)["input_ids"] or [self._blank()] for text in texts]
        order = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i))
        result = np.full((len(rows), self.model.config.num_labels), np.nan)
        while order:
            size = max(1, BATCH_TOKENS // len(rows[order[0]]))
            batch, order = order[:size], order[size:]
            result[batch] = self._batch([rows[i] for i in batch])
        return result

    def _batch(self, rows: list[list[int]]) -> np.ndarray:
        config = self.model.config.get_text_config()
        own, size = config.pad_token_id, self.model.get_input_embeddings().num_embeddings
        pad = own if own is not None and 0 <= own < size else _absent(rows, size)
        if pad is None and len(rows) > 1:
            return np.concatenate([self._batch([row]) for row in rows])
        width = max(len(row) for row in rows)
        device = next(self.model.parameters()).device
        ids = torch.tensor([row + [pad or 0] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        config.pad_token_id = pad
        with torch.inference_mode():
            logits: np.ndarray = self.model(input_ids=ids, attention_mask=mask).logits.double().cpu().numpy()
        config.pad_token_id = own
        return logits

    def _blank(self) -> int:
        """The token that stands for a text without tokens."""
        known = (self.tokenizer.eos_token_id, self.tokenizer.bos_token_id, self.tokenizer.pad_token_id, 0)
        return next(int(token) for token in known if token is not None)


def _absent(rows: list[list[int]], size: int) -> int | None:
    """A token id that is in no row, or None where there is none."""
    taken = {token for row in rows for token in row}
    return next((token for token in range(size) if token not in taken), None)


def load_classifier(path: str, label: str = "") -> Classifier:
    """Load a text classifier from a Hub id or a folder, safetensors only, to be read as probabilities.

    Args:
        path: Hub id (with an optional `@revision`) or folder.
        label: name of the label to score; empty: the one whose name says toxic, hate, offensive or the like.

    Raises:
        ModelError: it cannot be loaded, has no such label, or is a regression model.
    """
    tokenizer, model = _load(path)
    if model.config.problem_type == "regression":
        raise ModelError(f"the classifier '{path}' is a regression model; its outputs are not probabilities")
    return _classifier(path, tokenizer, model, choose_label(model.config.id2label, label, path))


def load_judge(path: str, label: str = "") -> Classifier:
    """Load a reward model or a classifier, to be read as log-odds or raw outputs.

    Args:
        path: as for `load_classifier`.
        label: name of the label to score; empty for a model with one output.

    Raises:
        ModelError: it cannot be loaded, has no such label, or has several and none is named.
    """
    tokenizer, model = _load(path)
    names = model.config.id2label
    if not label and len(names) > 1:
        listed = ", ".join(str(name) for name in names.values())
        raise ModelError(
            f"the model '{path}' has {len(names)} labels: {listed}. Name the one that is good, hf:{path}#LABEL, "
            f"or the one that is bad, hf:{path}#-LABEL"
        )
    return _classifier(path, tokenizer, model, choose_label(names, label, path))


def _load(path: str) -> tuple[Any, Any]:
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
    return tokenizer, model.eval().to(device)


def _classifier(path: str, tokenizer: Any, model: Any, label: int) -> Classifier:
    config = model.config
    alone = config.num_labels == 1 or config.problem_type in ("multi_label_classification", "regression")
    return Classifier(
        model=model,
        tokenizer=tokenizer,
        label=label,
        multi_label=alone,
        max_length=_max_length(config, tokenizer),
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


def _max_length(config: Any, tokenizer: Any) -> int:
    # Models with learned positions lose up to two of them to padding; tokenizers that know the limit say so.
    positions = config.to_dict().get("max_position_embeddings") or 514
    return int(min(tokenizer.model_max_length, positions - 2))
