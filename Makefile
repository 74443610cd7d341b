# Everything a contributor needs, from a bare Python 3.11 and make. `make` alone lists it.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:

# Many processes start in the tests: each would compile all modules for itself where a shell or image says so.
unexport PYTHONDONTWRITEBYTECODE

VENV ?= .venv
PYTHON ?=
ARGS ?=
WORKERS ?= auto
# What the tests store in: sqlite, or postgres (on 127.0.0.1:5432), where tests without a database are left out.
DATABASE ?= sqlite
TESTS ?= $(if $(filter postgres,$(DATABASE)),tests,src tests)
SLOW ?= tests
VISION_TESTS ?= tests/vision tests/api/test_frames.py tests/api/test_stream.py tests/cli/test_watch.py
# Migrations can be imported by Alembic alone.
NO_DOCTESTS := --ignore=src/everlearn/adapters/sql/migrations

BIN := $(VENV)/bin
# What is installed is keyed on the content of these two files, not on their times.
KEY := $(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
UP := $(VENV)/.installed-$(KEY)-up
DEV := $(VENV)/.installed-$(KEY)-dev
VISION := .venv-vision/.installed-$(shell cat pyproject.toml constraints-vision.txt | cksum | cut -d' ' -f1)

# Of the extra dev, what the tests of detectors need.
VISION_DEV := hypothesis pytest pytest-asyncio pytest-timeout

.PHONY: help up test slow lint format bench bench-learners vision screenshots docs-check constraints hooks install ahead clean

help: ## List these commands
	@echo "everlearn: make COMMAND [ARGS='...']"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(UP) ahead ## Start the server with the demo stream (ARGS: options of 'everlearn up')
	@exec $(BIN)/everlearn up --demo $(ARGS)

test: $(DEV) ahead ## Run the tests that are quick (TESTS: which paths; DATABASE=postgres; ARGS: options of pytest)
	@$(BIN)/pytest -n $(WORKERS) -m "not slow" --database $(DATABASE) $(NO_DOCTESTS) $(TESTS) $(ARGS)

slow: $(DEV) ahead ## Run the tests that take longer: real processes, kill -9, MLflow
	@$(BIN)/pytest -n $(WORKERS) -m slow --database $(DATABASE) $(SLOW) $(ARGS)

lint: $(DEV) ## Check format, lint, types, the direction of imports, and the workflows
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/zizmor --offline --quiet .github

format: $(DEV) ## Format the code and mend what lint can mend by itself
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(DEV) ahead ## Measure: the electricity stream through a running server (ARGS: --quick, --kills N, ...)
	@$(BIN)/python bench/live_elec.py $(ARGS)

bench-learners: $(DEV) ahead ## Measure: the learners beside River's and CapyMOA's (ARGS: --quick, --peers all, a part, ...)
	@$(BIN)/python bench/learners.py $(ARGS)

# None of them asks a learner of tables, so nothing is compiled for them.
vision: $(VISION) ## Run the tests of detectors in .venv-vision, which gets PyTorch and Ultralytics (AGPL-3.0)
	@NUMBA_DISABLE_JIT=1 NUMBA_CACHE_DIR=$(CURDIR)/.venv-vision/numba \
		.venv-vision/bin/pytest -p no:xdist $(VISION_TESTS) $(ARGS)

screenshots: $(DEV) ahead ## Save pictures of every page of the dashboard (ARGS: --out FOLDER, --quick)
	@$(BIN)/python bench/screenshots.py $(ARGS)

docs-check: $(DEV) ahead ## Check that the documentation names every command, setting and route
	@$(BIN)/pytest tests/test_docs.py $(ARGS)

install: $(DEV) ahead ## Make the virtual environment with all extras, and stop there
	@echo "Ready: $(BIN)/everlearn"

# The learners' hot loops, compiled once; no time when nothing has changed.
ahead: $(UP)
	@$(BIN)/python -m everlearn.learners.ahead

hooks: $(DEV) ## Run the checks before every commit
	@$(BIN)/pre-commit install

clean: ## Remove the virtual environments, caches and build outputs (never your data)
	@rm -rf $(VENV) .venv-vision build dist .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the virtual environment -------------------------------------------------------------------

comma := ,

# Installs quietly; the log is shown only when something went wrong.
define install_extras
	@echo "Installing everlearn[$(1)] into $(VENV) (a minute or two, only this once) ..."
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input \
		--editable '.[$(1)]' --constraint constraints.txt > $(VENV)/install.log 2>&1 \
	|| { tail -n 30 $(VENV)/install.log >&2; \
		echo "The installation failed; all it printed is in $(VENV)/install.log" >&2; exit 1; }
	@rm -f $(VENV)/.installed-*
endef

$(UP): | $(BIN)/python
	$(call install_extras,all)
	@touch $@

$(DEV): | $(BIN)/python
	$(call install_extras,all$(comma)torch$(comma)dev)
	@touch $(UP) $@

# Detectors have an environment of their own: another PyTorch, and a licence that is not for everybody.
$(VISION): $(BIN)/python
	@echo "Installing everlearn[vision] into .venv-vision, with Ultralytics under the AGPL-3.0 (a few minutes) ..."
	@$(BIN)/python -m venv .venv-vision
	@.venv-vision/bin/python -m pip install --disable-pip-version-check --no-input \
		--editable '.[vision]' $(VISION_DEV) --constraint constraints-vision.txt > .venv-vision/install.log 2>&1 \
	|| { tail -n 30 .venv-vision/install.log >&2; \
		echo "The installation failed; all it printed is in .venv-vision/install.log" >&2; exit 1; }
	@rm -f .venv-vision/.installed-*
	@touch $@

$(BIN)/python:
	@set -e; \
	for candidate in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
		if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then \
			python=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "everlearn needs Python 3.11 or newer, and none of $(strip $(PYTHON) python3.11 python3.12 python3.13 python3) is one." >&2; \
		echo "Install it (on Debian: apt install python3.11 python3.11-venv), or name it: make PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi; \
	version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	if ! $$python -c 'import ensurepip, venv' 2> /dev/null; then \
		echo "$$python cannot make virtual environments: its venv or ensurepip module is missing." >&2; \
		echo "On Debian and Ubuntu: apt install python$$version-venv" >&2; \
		exit 1; \
	fi; \
	echo "Making $(VENV) with $$python ($$version) ..."; \
	$$python -m venv --clear $(VENV)

# Resolves the newest versions in an environment of its own, so that nothing of yours gets in.
constraints: $(BIN)/python ## Refresh constraints.txt with the newest versions that fit together
	@set -e; fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(BIN)/python -m venv "$$fresh"; \
	"$$fresh/bin/python" -m pip install --disable-pip-version-check --no-input --quiet '.[all,torch,dev]'; \
	sed -n '/^#/p; /^$$/q' constraints.txt > "$$fresh/header"; \
	{ cat "$$fresh/header"; echo; \
	  "$$fresh/bin/python" -m pip freeze | grep -vi '^everlearn\|^#\|^-e' | sed 's/^\(torch==[^+]*\)+.*/\1/' \
	  | LC_ALL=C sort -f; } > "$$fresh/constraints.txt"; \
	cp "$$fresh/constraints.txt" constraints.txt; \
	echo "constraints.txt: $$(grep -c == constraints.txt) pins. Run 'make test' before you commit it."
