"""`python -m preftrace` is the `preftrace` command."""

from preftrace.cli import main

main()
