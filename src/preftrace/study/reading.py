"""A study file from disk: YAML with the place of every key, `key=value` changes, paths beside the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from preftrace.errors import ConfigError, DataError
from preftrace.study.config import Problem, StudyConfig, build

Places = dict[tuple[str, ...], str]
"""Path of keys -> where it was said, such as `line 4`."""
FILES = ("path", "prompts", "preamble")
"""Settings of a section that may name a file."""


def read_study(path: Path | None = None, changes: Sequence[str] = ()) -> StudyConfig:
    """Read and check a study.

    Args:
        path: the YAML file; None is the starter study.
        changes: `key.key=value`, the value as YAML; applied after the file.

    Raises:
        DataError: the file cannot be read.
        ConfigError: everything that is wrong with it, each with its place.
    """
    text, where = _text(path)
    data, places = _parse(text, where)
    for change in changes:
        _apply(data, change, places)
    if path is not None and isinstance(data, dict):
        _beside(data, path.resolve().parent)
    study, problems = build(data)
    if study is None:
        raise ConfigError([_line(problem, places) for problem in problems], where)
    return study


def _text(path: Path | None) -> tuple[str, str]:
    if path is None:
        return resources.files("preftrace.starter").joinpath("study.yaml").read_text(
            encoding="utf-8"
        ), "the starter study"
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except FileNotFoundError as error:
        raise DataError(f"no study file {path}. Give a YAML file, or none to run the starter study.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    except OSError as error:
        raise DataError(f"cannot read the study file {path}: {error.strerror}.") from error


def _parse(text: str, where: str) -> tuple[Any, Places]:
    places: Places = {}
    repeated: list[str] = []
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
        if root is not None:
            _walk(root, (), places, repeated)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError([f"{place}not YAML: {error.problem}"], where) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # A date that is none, and an alias inside what it stands for, are no YAMLError.
        raise ConfigError([f"not YAML that can be read: {error}"], where) from error
    if repeated:
        raise ConfigError(repeated, where)
    return data, places


def _walk(node: yaml.Node, path: tuple[str, ...], places: Places, repeated: list[str]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            if inner in places:
                repeated.append(f"line {key.start_mark.line + 1}: {'.'.join(inner)} is given twice")
            places[inner] = f"line {key.start_mark.line + 1}"
            _walk(value, inner, places, repeated)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            places[(*path, str(i))] = f"line {value.start_mark.line + 1}"
            _walk(value, (*path, str(i)), places, repeated)


def _apply(data: Any, change: str, places: Places) -> None:
    key, equals, value = change.partition("=")
    path = tuple(key.split("."))
    if not equals or not all(path) or not isinstance(data, dict):
        raise ConfigError([f"--set {change}: write key=value, such as --set stages.dpo.beta=0.2"])
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([f"--set {change}: the value is not YAML"]) from error
    at = data
    for part in path[:-1]:
        if not isinstance(at.get(part), dict):
            at[part] = {}
        at = at[part]
    at[path[-1]] = parsed
    for depth in range(1, len(path) + 1):
        places.setdefault(path[:depth], f"--set {change}")
    places[path] = f"--set {change}"


def _beside(data: dict[str, Any], folder: Path) -> None:
    """Relative paths that exist beside the study file are meant from there."""
    verticals = data.get("verticals")
    sections = [data.get("preferences"), *(verticals.values() if isinstance(verticals, Mapping) else [])]
    for section, key in [(data, "model"), *((s, name) for s in sections for name in FILES)]:
        value = section.get(key) if isinstance(section, dict) else None
        if (
            isinstance(value, str)
            and value not in ("", "starter")
            and not Path(value).is_absolute()
            and (folder / value).exists()
        ):
            section[key] = str((folder / value).resolve())


def _line(problem: Problem, places: Places) -> str:
    path = problem.path
    while path and path not in places:
        path = path[:-1]
    place = f"{places[path]}: " if path else ""
    name = ".".join(problem.path)
    return f"{place}{name}: {problem.message}" if name else problem.message
