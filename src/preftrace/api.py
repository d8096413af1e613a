"""The library in a few functions: what the command line does, as Python. `import preftrace` re-exports them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preftrace import artifacts, preferences
from preftrace.attribute.config import AttributeConfig
from preftrace.attribute.fidelity_config import FidelityConfig
from preftrace.attribute.fidelity_result import FidelityResult
from preftrace.attribute.scores import InfluenceScores
from preftrace.config import AdapterConfig
from preftrace.evaluate.compare import CompareConfig, Comparison, compare_stage, find_evaluations, load_comparisons
from preftrace.evaluate.replicates import find_replicates
from preftrace.evaluate.results import Evaluation
from preftrace.study.options import read_config, read_preferences
from preftrace.study.results import Run
from preftrace.types import Pair, StageRecord

if TYPE_CHECKING:
    from preftrace.attribute.selftest import Health


def run(study: str | Path | None = None, out: str | Path | None = None, **changes: Any) -> Run:
    """Run a study, or what is left of it.

    Args:
        study: the YAML file; None is the starter study.
        out: the run folder; `runs/<name>` by default.
        changes: settings to change, dots as double underscores: `stages__dpo__beta=0.2`.

    Raises:
        UserError: bad settings, data or model; the message says what and where.
    """
    import json

    from preftrace.study.reading import read_study
    from preftrace.study.run import run_study

    said = [f"{key.replace('__', '.')}={json.dumps(value)}" for key, value in changes.items()]
    settings = read_study(None if study is None else Path(study), said)
    return run_study(settings, Path(out) if out is not None else Path("runs") / settings.name)


def load_pairs(path: str | None = None, source: str | None = None, **options: Any) -> list[Pair]:
    """Read preference pairs; every row, with its flags, none dropped.

    Args:
        path: file, folder or Hub id; None is the starter's own pairs.
        source: `hh`, `columns`, `messages` or `starter`; guessed from the data where None.
        options: other fields of `PreferencesConfig`.
    """
    return preferences.read_pairs(read_preferences(path, source, options))


def align(
    kind: str,
    pairs: str | None,
    out: str | Path,
    *,
    model: str | Path = "starter",
    format: str = "raw",
    seed: int = 0,
    source: str | None = None,
    limit: int | None = None,
    holdout: float = 0.0,
    adapter: Mapping[str, Any] | None = None,
    **options: Any,
) -> StageRecord:
    """Train one stage. Its pairs go to `<out>-pairs`.

    Args:
        kind: `sft`, `reward`, `ppo`, `rloo` or `dpo`.
        pairs: file, folder or Hub id of the pairs; None or `starter` for the starter's own.
        out: folder of the stage.
        model: `starter`, a Hub id, a folder, or the folder of a finished stage to go on from.
        format: prompt format, `raw` or `chat`.
        seed: of the adapter's start and of the order of the pairs.
        source: format of the pairs; guessed where None.
        limit: first rows only.
        holdout: share of the prompts that are not trained on.
        adapter: fields of `AdapterConfig`.
        options: fields of the stage's settings, such as `epochs` and `beta`.
    """
    from preftrace import models
    from preftrace.align import run as train_stage
    from preftrace.registry import STAGES

    config = read_config(STAGES.load(kind).Config, options)
    shape = read_config(AdapterConfig, adapter or {})
    folder = Path(out)
    read = read_preferences(pairs, source, {"limit": limit, "holdout": holdout})
    data = preferences.prepare(read, seed, folder.with_name(f"{folder.name}-pairs"))
    checkpoint = models.resolve_checkpoint(str(model))
    inputs = {"pairs": data.content, "checkpoint": models.checkpoint_hash(checkpoint)}
    return train_stage(kind, config, checkpoint, data.folder, shape, folder, format=format, seed=seed, inputs=inputs)


def adapt(
    base: str | Path,
    tuned: str | Path,
    out: str | Path,
    *,
    pairs: str | None = None,
    source: str | None = None,
    limit: int = 16,
    **options: Any,
) -> StageRecord:
    """A low-rank adapter from the difference of two whole models, and how well it stands for the tuned one.

    Args:
        base: the model before training: `starter`, a Hub id, or a folder.
        tuned: the same model after training, all of its weights.
        out: folder of the adapter; it can be evaluated, and trained on from, as a stage's.
        pairs: file, folder or Hub id of pairs whose answers both models are compared on; None or `starter` for the
            starter's own.
        source: format of the pairs; guessed where None.
        limit: first rows only.
        options: other fields of `AdaptConfig`, such as `rank` and `targets`.
    """
    from preftrace.align._adapt import adapt as adapt_stage
    from preftrace.align._adapt_job import AdaptConfig

    config = read_config(AdaptConfig, {**options, "limit": limit})
    read = read_preferences(pairs, source, {"limit": limit})
    return adapt_stage(str(base), str(tuned), preferences.read_pairs(read), Path(out), config)


def evaluate(
    model: str | Path,
    vertical: str,
    out: str | Path,
    *,
    format: str = "raw",
    seed: int = 0,
    backend: str | Mapping[str, Any] = "hf",
    **options: Any,
) -> Evaluation:
    """Evaluate a model on one vertical.

    Args:
        model: `starter`, a Hub id, a folder, or the folder of a finished training stage.
        vertical: its name, such as `privacy`.
        out: folder of the evaluation.
        format: prompt format, `raw` or `chat`.
        seed: of the items drawn, the answers and the intervals.
        backend: what runs the model: `hf`, `vllm`, `openai`, or a mapping of its `name` and its settings.
        options: fields of the vertical's settings, such as `limit` and `samples`.
    """
    from preftrace import models
    from preftrace.evaluate import configure
    from preftrace.evaluate import run as evaluate_stage
    from preftrace.evaluate.backend import configure as configure_backend

    config, runs_it = configure(vertical, options), configure_backend(backend)
    checkpoint = models.resolve_checkpoint(str(model))
    record = evaluate_stage(checkpoint, vertical, config, Path(out), format=format, seed=seed, backend=runs_it)
    return Evaluation(record)


def compare(
    a: Evaluation | str | Path, b: Evaluation | str | Path, out: str | Path, **options: Any
) -> list[Comparison]:
    """Paired comparison of two evaluations of the same items; differences are b - a.

    Args:
        a: an evaluation, or the folder of one, or of a stage's evaluations; or a log of lm-eval or Inspect. With `*`,
            as in `runs/s*/evaluate/sft`, several that differ by their training seed.
        b: likewise, after.
        out: folder of the comparisons.
        options: fields of `CompareConfig`.
    """
    folders = [x.record.folder if isinstance(x, Evaluation) else Path(x) for x in (a, b)]
    names = [f"{folder.parent.name}/{folder.name}" for folder in folders]
    replicates = (zip(names, map(find_evaluations, pair), strict=True) for pair in find_replicates(*folders))
    compare_stage([*map(dict, replicates)], Path(out), read_config(CompareConfig, options))
    return load_comparisons(Path(out))


def attribute(
    run: Run | str | Path, stage: str, out: str | Path | None = None, *, seed: int | None = None, **options: Any
) -> InfluenceScores:
    """Influence of every pair that a stage trained on, on every vertical evaluated at that stage.

    Args:
        run: a run folder.
        stage: the trained stage.
        out: folder of the scores; the run's own where the settings are the study's.
        seed: of the draw of query items; the study's where None.
        options: fields of `AttributeConfig` to change from the study's, such as `methods`.
    """
    from preftrace.attribute.influence import run as attribute_stage
    from preftrace.study.backend import check_influence
    from preftrace.study.reading import read_study

    folder = (run if isinstance(run, Run) else Run(run)).folder
    evaluations = find_evaluations(folder / "evaluate" / stage)
    check_influence(study := read_study(folder / "study.yaml"))
    started = study.stages[stage].from_ if stage in study.stages else "base"
    usual = study.attribute.method_config() if study.attribute else AttributeConfig()
    settings = read_config(AttributeConfig, {**usual.model_dump(), **options})
    place = folder / "attribute" / stage
    if settings != usual:
        # Beside the run's own, so that nobody takes it for a stage.
        place = folder / "attribute-more" / "-".join([stage, artifacts.hash_json(settings.identity())[:8]])
    record = attribute_stage(
        folder / "align" / stage,
        folder / "pairs",
        evaluations,
        place if out is None else Path(out),
        settings,
        before=find_evaluations(folder / "evaluate" / started) if settings.looks_back else None,
        precision=study.precision,
        seed=study.seed if seed is None else seed,
    )
    return InfluenceScores(record)


def attribute_adapted(
    folder: str | Path,
    pairs: str | None,
    out: str | Path,
    loss: str,
    *,
    source: str | None = None,
    limit: int | None = None,
    verticals: Mapping[str, Mapping[str, Any]] | None = None,
    **options: Any,
) -> InfluenceScores:
    """Influence of every pair on a model that was tuned elsewhere, of which `adapt` made a base and an adapter.

    Nothing recorded that training: its loss and its pairs are what the caller says they were.

    Args:
        folder: what `adapt` made.
        pairs: file, folder or Hub id of the pairs that the model was tuned on; None or `starter` for the starter's own.
        out: folder of the pairs, the evaluations and the scores.
        loss: what was minimised, `sft` or `dpo` (the reference is the base).
        source: format of the pairs; guessed where None.
        limit: first rows only.
        verticals: vertical -> its settings; the five on the starter's items where None.
        options: fields of `AdaptedConfig` (`beta`, `max_length`, `format`, `seed`) and of `AttributeConfig`.
    """
    from preftrace.study.adapted import read_settings, score_adapted

    settings = read_settings({"loss": loss, **options}, verticals)
    read = read_preferences(pairs, source, {"limit": limit})
    return InfluenceScores(score_adapted(Path(folder), read, Path(out), settings))


def doctor(model: str | Path = "starter", *, adapter: str | Path | None = None, precision: str = "auto") -> Health:
    """What is installed here, and whether a model's numbers agree with those of plainer ways to compute them.

    Args:
        model: `starter`, a Hub id, a folder, or the folder of a finished training stage.
        adapter: folder of a LoRA adapter to put on it; without one, a model that has none gets a random one.
        precision: `auto`, `float32`, `bfloat16`, `autocast` or `float64`.
    """
    from preftrace.attribute.selftest import examine

    return examine(str(model), None if adapter is None else str(adapter), precision)


def validate(
    run: Run | str | Path,
    stage: str,
    out: str | Path | None = None,
    *,
    scores: str | Path | None = None,
    workers: int = 1,
    **options: Any,
) -> FidelityResult:
    """How well the influence of a stage's pairs predicts training it again on other pairs of the same run.

    Args:
        run: a run, or its folder.
        stage: a trained stage with influence.
        out: folder of the results; `RUN/validate/STAGE` by default.
        scores: folder of the influence; the run's own by default.
        workers: processes that train side by side; results do not depend on it.
        options: fields of `FidelityConfig`, such as `subsets` and `remove`.
    """
    from preftrace.engines import Resources
    from preftrace.study.validate import validate_stage

    config = read_config(FidelityConfig, options)
    folder = run.folder if isinstance(run, Run) else Path(run)
    places = [None if place is None else Path(place) for place in (out, scores)]
    record = validate_stage(folder, stage, places[0], config, scores=places[1], resources=Resources(workers))
    return FidelityResult(record)


def report(run: Run | str | Path, out: str | Path | None = None) -> Path:
    """Write the HTML report of a run, finished or not, and return its path."""
    from preftrace.report import write

    return write(run.folder if isinstance(run, Run) else Path(run), None if out is None else Path(out))
