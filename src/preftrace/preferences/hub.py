"""Rows of a Hub data set, or of a folder laid out like one, through `datasets`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from preftrace import artifacts
from preftrace.errors import DataError
from preftrace.preferences.config import PreferencesConfig
from preftrace.preferences.files import PARSERS, known_suffix
from preftrace.preferences.rows import Material, Row

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
CARD = "README.md"
"""Says which files make up which configuration and split."""
COMMIT = re.compile(r"[0-9a-f]{40}")


def open_folder(path: Path, config: PreferencesConfig) -> Material:
    """Hash the files of a folder; `datasets` reads them when the rows are asked for.

    Raises:
        DataError: no files are in it.
    """
    inner = path / (config.data_dir or "")
    files = sorted(p for p in inner.rglob("*") if p.name == CARD or (known_suffix(p.name) and p.is_file()))
    if all(file.name == CARD for file in files):
        raise DataError(f"{inner} is a folder without data files ({', '.join(PARSERS)}). Name a file.")
    try:
        digest = artifacts.hash_json([[p.relative_to(inner).as_posix(), artifacts.hash_file(p)] for p in files])
    except OSError as error:
        raise DataError(f"{error.filename or inner} cannot be read: {error.strerror or error}.") from error
    return Material(str(path), digest, lambda: _rows(str(path.resolve()), None, config))


def open_hub(config: PreferencesConfig) -> Material:
    """Find out which commit of a Hub data set is meant; its rows are fetched when they are asked for.

    Raises:
        DataError: there is no such data set or revision, or the Hub cannot be reached.
    """
    assert config.path is not None
    commit = commit_of(config.path, config.revision)
    digest = artifacts.hash_json(["hub", config.path, commit])
    return Material(f"Hub data set {config.path}", digest, lambda: _rows(config.path, commit, config))


def commit_of(path: str, revision: str | None) -> str:
    """The commit that a revision names: itself, the Hub's answer, or the cached copy's where there is no network.

    Raises:
        DataError: there is no such data set or revision, or the Hub cannot be reached and nothing is cached.
    """
    if revision and COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi, snapshot_download

    try:
        commit = HfApi().dataset_info(path, revision=revision, timeout=30).sha
    except _hub_errors() as error:
        try:
            return Path(snapshot_download(path, repo_type="dataset", revision=revision, local_files_only=True)).name
        except _hub_errors():
            raise _unreachable(path, error) from error
    assert commit is not None, "the Hub always names the commit"
    return commit


def _rows(path: str | None, commit: str | None, config: PreferencesConfig) -> Iterator[Row]:
    import datasets

    try:
        found = datasets.load_dataset(
            path, name=config.name, data_dir=config.data_dir, split=config.split, revision=commit
        )
    except (*_hub_errors(), datasets.exceptions.DatasetsError) as error:
        if commit is not None:
            raise _unreachable(str(path), error) from error
        raise DataError(f"{path}: `datasets` cannot read this folder: {_cause(error)}") from error
    values: Mapping[str, Any]
    for number, values in enumerate(found):
        yield Row(f"row {number}", values)


def _hub_errors() -> tuple[type[Exception], ...]:
    """What a missing data set, a wrong split or a dead network raise; the HTTP library's errors are no OSError."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, ValueError, *(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError"))


def _unreachable(path: str, error: Exception) -> DataError:
    return DataError(
        f"{path}: no file or folder of this name, and as a Hub data set it cannot be read: {_cause(error)} "
        "Check the name, the split and the network; without a network, name a local file."
    )


def _cause(error: BaseException) -> str:
    """The last line of an error, with its first cause, short."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
