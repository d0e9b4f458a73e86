# Every target brings its own set-up. `make help` lists them.

PYTHON      ?= python3
VENV        := .venv
BIN         := $(VENV)/bin
STAMP       := $(VENV)/.stamp
TORCH       ?= torch==2.13.0
TORCH_INDEX ?=
PYTEST      := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo lab check test test-slow bench format clean

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(STAMP) ## Train a real LoRA here and bring it home; YES=1 agrees to the printed plan.
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/demo.py $(if $(YES),--yes)

lab: $(STAMP) ## Open JupyterLab with the extension and the first notebook.
	$(BIN)/jupyter lab notebooks/01_first_training.ipynb $(LAB_ARGS)

check: $(STAMP) ## Format, lint, types, import floors.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: check ## check, and every test that is not slow.
	$(PYTEST) -m "not slow" -n 2 --dist loadfile --durations=10

test-slow: $(STAMP) ## Soak, fault and large-object tests.
	$(PYTEST) -m slow --timeout=1800 --durations=10

bench: $(STAMP) ## Benchmarks: ratios to a peer or a floor, measured in one run.
	@for file in tests/bench/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

format: $(STAMP) ## Put every file in the house's form.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove everything that these targets made.
	rm -rf $(VENV) demo build dist trainer/dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment. A torch that is there stays; otherwise $(TORCH) is installed, from TORCH_INDEX if that is set.
$(STAMP): pyproject.toml trainer/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "simpletuner_lab needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import torch' 2>/dev/null || \
	  $(BIN)/python -m pip install --disable-pip-version-check -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt \
	  -e "./trainer[train]" -e ".[local,test]"
	@touch $@
