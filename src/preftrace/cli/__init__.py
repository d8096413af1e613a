"""The command line: one file for each command. Bad input gives one message on standard error and exit code 2."""

from __future__ import annotations

import errno
import os
import sys
import warnings

BAD_INPUT = 2
INTERRUPTED = 130
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""What the system says where nothing more can be written."""


def main() -> None:
    """Entry point of the `preftrace` command."""
    from preftrace.cli.app import app
    from preftrace.errors import UserError
    from preftrace.progress import clean

    # Forked tokenizer threads only matter to a library that we do not fork.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # What libraries will change some day is for us to read in the tests, not for users on their terminal.
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        app()
    except UserError as error:
        print(f"preftrace: {clean(str(error))}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"preftrace: {error.strerror}; make room, and the same command goes on from here", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        print("preftrace: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(INTERRUPTED)
