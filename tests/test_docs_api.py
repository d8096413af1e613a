"""The examples of docs/api.md run as they stand, on a tiny model in the starter model's place."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from preftrace import artifacts

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


@pytest.mark.integration
def test_every_example_of_the_api_page_runs(tiny_folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache" / "smollm2-135m-instruct"
    shutil.copytree(tiny_folder, cache)
    artifacts.write_json(cache / "fingerprint.json", {"sha256": "tiny"})
    monkeypatch.setenv("PREFTRACE_CACHE", str(cache.parent))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 6
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["run"].report.is_file()
    assert len(names["run"].comparison_frame()) > 15
    assert set(names["scores"].frame().method) == {"identity", "length", "random", "bm25"}
    assert len(names["pairs"]) >= 160
