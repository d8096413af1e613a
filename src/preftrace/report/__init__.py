"""One self-contained HTML file of a run, made from its records and tables alone. One section is one file."""

from preftrace.report.page import write as write
from preftrace.rooms import make_callable

make_callable(__name__)
