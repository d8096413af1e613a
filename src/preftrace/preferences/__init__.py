"""Preference pairs in: read, flagged, sorted out, split, and written as the first stage of a study.

A format is one file in `sources/` (see `rows.Source`): the registry finds it, and its name is the file's name.
"""

from preftrace.preferences.check import PairsReport, mark_truncated, measure_pairs, summarise
from preftrace.preferences.config import FLAGS, ColumnNames, PreferencesConfig
from preftrace.preferences.reading import read_guessed, read_pairs
from preftrace.preferences.splitting import Dropped, Kept, keep
from preftrace.preferences.stage import load_pairs, prepare
from preftrace.preferences.tables import pairs_to_table, table_to_pairs

__all__ = [
    "FLAGS",
    "ColumnNames",
    "Dropped",
    "Kept",
    "PairsReport",
    "PreferencesConfig",
    "keep",
    "load_pairs",
    "mark_truncated",
    "measure_pairs",
    "pairs_to_table",
    "prepare",
    "read_guessed",
    "read_pairs",
    "summarise",
    "table_to_pairs",
]
