"""All rows of a source as pairs, with their flags. Nothing is left out here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import resources
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

from preftrace.errors import DataError
from preftrace.preferences import files, hub
from preftrace.preferences.config import FLAGS, PreferencesConfig
from preftrace.preferences.rows import Draft, Material, Row, RowError, Source
from preftrace.registry import SOURCES
from preftrace.types import Pair, prompt_to_json, text_id


def read_pairs(config: PreferencesConfig) -> list[Pair]:
    """Every row of the source (or the first `limit`) as a pair, flagged.

    Raises:
        DataError: the data cannot be read; the message names the file, the line or row, and the cause.
    """
    return pairs_from(open_material(config), config)


def open_material(config: PreferencesConfig) -> Material:
    """Find and hash what the pairs are read from, without parsing it.

    Raises:
        DataError: it is not there or cannot be read.
    """
    if config.path is None:
        packaged = Path(str(resources.files("preftrace"))) / str(_source(config.source).PACKAGED)
        return files.open_file(packaged, f"preftrace/{_source(config.source).PACKAGED}")
    path = Path(config.path).expanduser()
    if not config.path.strip():
        raise DataError("the path of the pairs is empty. Name a file, a folder or a Hub id.")
    if path.is_dir():
        return hub.open_folder(path, config)
    if not path.exists() and not files.known_suffix(config.path) and hub.HUB_ID.fullmatch(config.path):
        return hub.open_hub(config)
    return files.open_file(path)


def read_guessed(config: PreferencesConfig) -> tuple[str, list[Pair]]:
    """Read pairs by the source whose format the first row has, whatever `config.source` says; and that source's name.

    Raises:
        DataError: the data cannot be read, or no source fits.
    """
    material = open_material(config)
    rows = material.rows()
    first = next(rows, None)
    if first is None:
        raise DataError(f"{material.name} holds no rows.")
    name = _fitting(first.values, config)
    if name is None:
        needs = "; ".join(f"{source}: {_source(source).NEEDS}" for source in SOURCES.names())
        there = ", ".join(map(str, first.values)) or "none"
        raise DataError(f"{material.name}, {first.place}: no source fits. Columns there: {there}. Sources: {needs}.")
    guessed = config.model_copy(update={"source": name})
    return name, pairs_from(material._replace(rows=lambda: chain((first,), rows)), guessed)


def pairs_from(material: Material, config: PreferencesConfig) -> list[Pair]:
    """The pairs of opened data; see `read_pairs`."""
    source = _source(config.source)
    seen: set[str] = set()
    pairs = []
    first: Row | None = None
    for number, row in enumerate(islice(material.rows(), config.limit)):
        first = first or row
        try:
            draft = source.read(row.values, config)
            pair = _pair(draft, config.source, number)
        except RowError as error:
            raise DataError(f"{material.name}, {row.place}: {error}. {_advice(row, config)}") from error
        pairs.append(flagged(pair, "duplicate") if pair.id in seen else pair)
        seen.add(pair.id)
    if first is None:
        raise DataError(f"{material.name} holds no rows.")
    if all("malformed" in pair.flags for pair in pairs):
        cause = f"no prompt that both answers reply to, in any of {len(pairs)} rows"
        raise DataError(f"{material.name}, from {first.place} on: {cause}. {_advice(first, config)}")
    return pairs


def flagged(pair: Pair, *flags: str) -> Pair:
    """The pair with more flags, in their usual order."""
    return replace(pair, flags=tuple(sorted({*pair.flags, *flags}, key=FLAGS.index)))


def _pair(draft: Draft, source: str, row: int) -> Pair:
    prompt = prompt_to_json(draft.prompt)
    try:
        (prompt + draft.chosen + draft.rejected).encode()
    except UnicodeEncodeError as error:
        raise RowError(f"a text holds half a character (U+{ord(error.object[error.start]):04X})") from error
    meta = json.loads(json.dumps(dict(draft.meta or {}), default=str), parse_constant=lambda _: None)
    pair = Pair(
        id=text_id(prompt, draft.chosen, draft.rejected),
        prompt=draft.prompt,
        chosen=draft.chosen,
        rejected=draft.rejected,
        source=source,
        row=row,
        meta=meta,
    )
    return flagged(pair, *draft.flags, *_texts_flags(draft))


def _texts_flags(draft: Draft) -> Iterator[str]:
    blank = not draft.prompt.strip() if isinstance(draft.prompt, str) else not any(m.content for m in draft.prompt)
    if blank:
        yield "malformed"
    if not draft.chosen or not draft.rejected:
        yield "empty"
    if draft.chosen == draft.rejected:
        yield "identical"


def _advice(row: Row, config: PreferencesConfig) -> str:
    other = _fitting(row.values, config)
    needs = f"Source '{config.source}' needs {_source(config.source).NEEDS}."
    if other is not None and other != config.source:
        return f"{needs} Source '{other}' fits this row."
    return f"{needs} Mend the row, or name another source ({', '.join(SOURCES.names())})."


def _fitting(values: Mapping[str, Any], config: PreferencesConfig) -> str | None:
    fits = {name: _source(name).fits(values, config) for name in SOURCES.names()}
    best = max(fits, key=lambda name: fits[name])
    return best if fits[best] > 0 else None


def _source(name: str) -> Source:
    return cast(Source, SOURCES.load(name))
