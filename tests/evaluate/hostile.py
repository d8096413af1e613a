"""What the hostile tests share: strict JSON, the command as it is typed, and texts that mean harm."""

import json
import sys

import pytest

from preftrace import artifacts
from preftrace.cli import main

ANSI, BIDI = "\x1b[31mred\x1b[0m\x1b]0;title\x07", "\u202etxet\u202c"
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"
RTL = "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd"
EMOJI, ZERO = "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f4", "a\u200bb\ufeffc\u2060"
TEXTS = {
    "control characters": "\x00\x01\x08\x1f\x7f\x85",
    "terminal escapes": ANSI,
    "bidi overrides": BIDI,
    "script tags": SCRIPT,
    "right to left": RTL,
    "emoji": EMOJI,
    "zero width": ZERO,
    "line separators": "one\u2028two\u2029three\r\nfour\rfive",
    "markup of a terminal": "[bold red]x[/] [/nothing]",
    "template": "{{ 7 * 7 }} {% raw %} {sentence} %s %(x)s ${x}",
    "JSON": '"}],"trust":1,"x":[{"\\ud800',
    "only marks": "?!...;;; --- ***",
    "ten thousand letters": "a" * 10_000,
    "ten thousand words": "I agree that it is not wrong, " * 350,
    "brackets": "([{<" * 2_500,
    "one word over and over": "sorry " * 1_700,
}


def strict(text):
    """JSON as other parsers read it: NaN and infinities are no values."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.fixture
def typed(monkeypatch, capfd):
    """Run the command with these words: its exit code, and what it wrote to standard output and error."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["preftrace", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capfd.readouterr()
        return end.value.code or 0, said.out, said.err

    return run


def refused(done):
    """The one message of a command that refused: exit code 2, no traceback, nothing that a terminal would obey."""
    code, out, err = done
    message = err[err.rindex("preftrace: ") :]
    assert code == 2 and not out and "Traceback" not in err, done
    assert err.count("preftrace: ") == 1 and all(c.isprintable() or c in "\n\t" for c in message), repr(err)
    return message


def toxicity(model, out, *more):
    """The words of a small evaluation: 8 items, 2 answers each."""
    small = ("--limit", 8, "--set", "samples=2", "--set", "max_new_tokens=4")
    return ("evaluate", model, "--vertical", "toxicity", "--out", out, *small, *more)


def tables(folder):
    """What a finished stage holds: hashes of its files, and its content."""
    record = artifacts.read_record(folder)
    return record.outputs, record.content
