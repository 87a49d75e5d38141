# The commands of this repository; `make help` lists them. Needs GNU make, Python 3.11 or later and a package index.

VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
EXTRAS := $(VENV)/.ready-examples

# The interpreter that the environment is made with: the first of these that runs and is new enough.
PYTHONS := $(PYTHON) python3.11 python3 python3.12 python3.13 python3.14

# A recorded workflow when one is at hand; without one the example makes a workflow with wfcommons.
WORKFLOW ?= $(firstword $(wildcard ../shared/workflows/pegasus/1000genome/*.json \
                                   ../shared/workflows/pegasus/*/*.json))

.DEFAULT_GOAL := help
.PHONY: help venv test lint demo soak bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(READY) ## make the virtual environment (again when pyproject.toml changes)

$(READY): pyproject.toml
	@if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  for p in $(PYTHONS); do \
	    if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$p; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "alamo needs Python 3.11 or later; here is: $$(python3 --version 2>&1)." >&2; \
	    echo "Install one (Debian 12: apt install python3 python3-venv), or name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
	    exit 1; \
	  fi; \
	  rm -rf $(VENV); \
	  if ! $$found -m venv $(VENV) >/dev/null 2>&1; then \
	    rm -rf $(VENV); \
	    if ! { $$found -m venv --without-pip $(VENV) && \
	           $$found -m pip --python $(BIN)/python install --quiet pip; } >/dev/null 2>&1; then \
	      rm -rf $(VENV); \
	      echo "$$found can make no virtual environment with pip in it (Debian: apt install python3-venv)." >&2; \
	      exit 1; \
	    fi; \
	  fi; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(EXTRAS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[examples]'
	@touch $@

lint: $(READY) ## ruff, ruff format and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict

# Compiled beforehand: the tests start some thousand processes, and where Python is told to write no byte
# code each of them would compile its modules anew.
test: lint ## everything that must pass: lint and the tests
	$(BIN)/python -m compileall -q src tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

demo: $(READY) $(if $(WORKFLOW),,$(EXTRAS)) ## replay a workflow, matrix powers, a pipeline, a million option prices, an MPI job
	$(BIN)/python examples/replay_workflow.py $(WORKFLOW)
	$(BIN)/python examples/matrix_powers.py
	$(BIN)/python examples/matrix_powers_ddict.py
	$(BIN)/python examples/pipeline_queue.py
	$(BIN)/python examples/monte_carlo.py
	$(BIN)/python examples/mixed_mpi.py

soak: $(READY) ## the long kill and churn runs, and examples for the property tests that no run had before
	$(BIN)/python -m pytest -m soak --timeout 3600
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile search

bench: $(READY) ## every benchmark beside its rivals (an idle machine, please)
	$(BIN)/python benchmarks/run_all.py

clean: ## remove the environment and everything generated
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
