"""Verticals as tasks of lm-eval (https://github.com/EleutherAI/lm-evaluation-harness): one class for all of them.

A vertical may need both drawn answers and log-likelihoods of options, which a YAML task cannot ask for together; a task
class can. Its requests are the vertical's prompts, its results the vertical's own judge and score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task, TaskConfig
from lm_eval.filters import build_filter_ensemble

from preftrace.errors import ConfigError
from preftrace.evaluate.exports.exported import (
    Exported,
    labels,
    mean_of,
    option_text,
    own_answer,
    prompt_text,
    stops,
)
from preftrace.types import Item


class Weighed(float):
    """A value that lm-eval logs as a number, with what the mean over items needs to know: its weight and its unit."""

    def __new__(cls, value: float, weight: float = 1.0, unit: str = "") -> Weighed:
        """As a float is made."""
        made = super().__new__(cls, value)
        made.weight, made.unit = weight, unit
        return made

    weight: float
    unit: str


class Vertical(Task):  # type: ignore[misc]
    """A vertical as a task.

    Args:
        config: the YAML: `task`, `vertical`, and as `metadata` what the user gave: `seed`, and by the vertical's name
            its settings, as in `--metadata '{"toxicity": {"limit": 50}}'`.

    Raises:
        ConfigError: wrong settings.
    """

    OUTPUT_TYPE = "generate_until"

    def __init__(self, config: Mapping[str, Any]) -> None:
        given = dict(config.get("metadata") or {})
        self.exported = Exported(config["vertical"], given.get(config["vertical"]), int(given.get("seed", 0)))
        self.VERSION = self.exported.module.VERSION
        super().__init__()
        self._config = TaskConfig(
            task=config["task"],
            num_fewshot=0,
            generation_kwargs=_drawing(self.exported),
            metadata={**given, "version": self.VERSION, "settings": self.exported.config.identity()},
        )
        # All samples are kept: the vertical itself says what several answers to one item are worth.
        self._filters = [build_filter_ensemble("none", [])]
        self._items = {item.id: item for item in self.exported.items}
        self._chat = False

    @property
    def task_name(self) -> str:
        """Its name."""
        return str(self._config.task)

    def download(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to fetch: the items are built."""

    def has_training_docs(self) -> bool:
        """There are none."""
        return False

    def has_validation_docs(self) -> bool:
        """There are none."""
        return False

    def has_test_docs(self) -> bool:
        """The items."""
        return True

    def test_docs(self) -> list[dict[str, Any]]:
        """The items as plain values: id, labels, raw prompt, options, target."""
        return [
            {
                "id": item.id,
                "preftrace": labels(item),
                "prompt": prompt_text(item.prompt, None),
                "options": [option.text for option in item.options],
                "target": dict(item.target),
            }
            for item in self.exported.items
        ]

    def doc_to_text(self, doc: Mapping[str, Any]) -> str:
        """The raw prompt."""
        return str(doc["prompt"])

    def doc_to_target(self, doc: Mapping[str, Any]) -> str:
        """The options that are good, a line each."""
        return "\n".join(option.text for option in self._item(doc).options if option.good)

    def fewshot_context(
        self,
        doc: Mapping[str, Any],
        num_fewshot: int = 0,
        system_instruction: str | None = None,
        apply_chat_template: bool = False,
        chat_template: Callable[..., str] | None = None,
        **kwargs: Any,
    ) -> str:
        """The prompt as preftrace renders it: raw, or by the model's chat template.

        Raises:
            ConfigError: a system message from outside, which would make it another prompt.
        """
        if system_instruction:
            raise ConfigError([f"{self.task_name}: its prompts are whole; leave --system_instruction out"])
        return prompt_text(self._item(doc).prompt, chat_template if apply_chat_template else None)

    def build_all_requests(self, **kwargs: Any) -> None:
        """All requests, never from lm-eval's cache of them, whose key knows nothing of a vertical's settings."""
        self._chat = bool(kwargs.get("apply_chat_template"))
        super().build_all_requests(**{**kwargs, "cache_requests": False})

    def construct_requests(self, doc: Mapping[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """One request for the answers, which is repeated for each sample, and one for each option."""
        item, chat = self._item(doc), self._chat
        task, number, _ = kwargs["metadata"]
        requests = []
        if self.exported.sampling is not None:
            drawing = {**self.config.generation_kwargs, "until": stops(item.prompt, chat)}
            requests.append(_request("generate_until", doc, (ctx, drawing), (task, number, self._samples)))
        for option in item.options:
            asked = (ctx, option_text(option.text, chat))
            requests.append(_request("loglikelihood", doc, asked, (task, number, 1)))
        for place, request in enumerate(requests):
            request.idx = place
        return requests

    def process_results(self, doc: Mapping[str, Any], results: Sequence[Sequence[Any]]) -> dict[str, float]:
        """Trust and measures of one item; a measure that does not apply to it is left out."""
        item = self._item(doc)
        texts = list(results[0]) if self.exported.sampling is not None else []
        rest = results[1:] if self.exported.sampling is not None else results
        answers = [own_answer(text, item.prompt, self._chat) for text in texts]
        judged = self.exported.judge(item, answers, [float(found[0][0]) for found in rest])
        return {
            name: Weighed(value, judged.weights.get(name, 1.0), "" if name == "missing" else item.unit)
            for name, value in judged.values.items()
        }

    def aggregation(self) -> dict[str, Callable[[Sequence[Weighed]], float]]:
        """Means over the items whose value is known, as preftrace has them."""
        return dict.fromkeys(self.exported.measures, _mean)

    def higher_is_better(self) -> dict[str, bool]:
        """Which way each measure is better."""
        return self.exported.measures

    @property
    def _samples(self) -> int:
        return self.exported.sampling.samples if self.exported.sampling is not None else 0

    def _item(self, doc: Mapping[str, Any]) -> Item:
        return self._items[doc["id"]]


def _mean(values: Sequence[Weighed]) -> float:
    return mean_of(values, [value.weight for value in values], [value.unit for value in values])


def _request(kind: str, doc: Mapping[str, Any], asked: tuple[Any, ...], metadata: tuple[Any, ...]) -> Any:
    return Instance(request_type=kind, doc=doc, arguments=asked, idx=0, metadata=metadata)


def _drawing(exported: Exported) -> dict[str, Any]:
    """lm-eval's words for how answers are drawn: from the full distribution, or greedily."""
    sampling = exported.sampling
    if sampling is None or sampling.temperature == 0:
        return {"until": [], "do_sample": False, "max_gen_toks": sampling.max_new_tokens if sampling else 1}
    full = {"temperature": sampling.temperature, "top_p": 1.0, "top_k": 0}
    return {"until": [], "do_sample": True, "max_gen_toks": sampling.max_new_tokens, **full}
