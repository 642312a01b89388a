# Plantroom: everything that a person or a machine does with a checkout.
# Needs python3 (3.11 or newer, with venv) and make; nothing else, not even a home directory.

SHELL := /bin/sh
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
PACKAGES := broker certs cli cloud device gateway lab policies views wire
SLOW := soak or chaos or compose or real
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run test soak chaos real compose bench lint format docs lock clean

help: ## show what there is to make
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "plantroom: no Python 3.11 or newer with venv found:" \
	"install python3 and python3-venv, or say make PYTHON=/path/to/python3" >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)

# Third parties come from the lock, each file checked by its hash; then the project, without asking
# the index again: its build requirement stands in the lock as well.
$(VENV)/.run: requirements.lock pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) --require-hashes --requirement requirements.lock
	$(PIP_INSTALL) --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements-test.lock $(VENV)/.run
	$(PIP_INSTALL) --require-hashes --requirement requirements-test.lock
	@touch $@

install: $(VENV)/.test ## make .venv with the product and what its tests need

run: $(VENV)/.run ## a building and its cloud on this machine; Ctrl-C stops it; ARGS="--speed 10"
	@exec $(BIN)/plantroom up $(ARGS)

test: $(VENV)/.test ## the quick suite
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not ($(SLOW))" $(ARGS)

# pytest ends with 5 where a slice has no test yet, and says so.
soak: $(VENV)/.test ## bounded long runs
	$(BIN)/python -m pytest -m soak $(ARGS) || test $$? = 5

chaos: $(VENV)/.test ## processes killed and links cut, for some minutes
	$(BIN)/python -m pytest -m chaos $(ARGS) || test $$? = 5

real: $(VENV)/.test ## beside real OPA, SPIRE, swtpm, SoftHSM2 (each skipped where it is missing)
	$(BIN)/python -m pytest -m real $(ARGS) || test $$? = 5

compose: $(VENV)/.test ## the containers, for real (root, docker.io, mmdebstrap; else a skip)
	$(BIN)/python -m pytest -m compose $(ARGS) || test $$? = 5

bench: $(VENV)/.test ## every benchmark, one after the other
	@failed=; for file in tests/bench/[a-z]*.py; do test -e "$$file" || continue; \
	name=$$(basename "$$file" .py); \
	test "$$name" = conftest || $(BIN)/python -m tests.bench.$$name $(ARGS) || failed="$$failed $$name"; \
	done; test -z "$$failed" || { echo "missed its target:$$failed" >&2; exit 1; }

lint: $(VENV)/.test ## format, lint, types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/mypy tests

format: $(VENV)/.test ## rewrite the sources in their one form
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: $(VENV)/.test ## write the reference pages anew from the code
	$(BIN)/python -m tests.reference

# The lock holds no address of an index: it installs from wherever pip is configured to look.
COMPILE = CUSTOM_COMPILE_COMMAND='make lock' "$$tools/bin/pip-compile" --quiet --strip-extras \
	--generate-hashes --allow-unsafe --no-emit-index-url --no-emit-trusted-host \
	--no-emit-find-links --build-deps-for editable --extra fast $(ARGS)
lock: ## resolve pyproject.toml anew; with the oldest Python that we support. ARGS=--upgrade
	@set -e; tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; python3.11 -m venv "$$tools"; \
	"$$tools/bin/python" -m pip install --quiet --disable-pip-version-check 'pip-tools>=7.6'; \
	$(COMPILE) --output-file requirements.lock pyproject.toml; \
	$(COMPILE) --extra test --constraint requirements.lock \
		--output-file requirements-test.lock pyproject.toml

clean: ## remove what was built; never the state of a building
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
