import json

import pytest


@pytest.fixture
def write(tmp_path):
    """Write rows to a JSONL file and return its path."""

    def to(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return to
