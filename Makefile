# One word for everything one does here. `make` alone lists the words.
# They all install what they need; nothing is written outside this folder.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Further words for the command: `make run ARGS="--port 9000"`, `make test ARGS="-k fence"`.
ARGS ?=
export PYTHON
# Test processes; `WORKERS=0` runs everything in one.
WORKERS ?= auto
SLOW := slow or e2e or crash or services

.PHONY: help
help: ## List these words.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(STAMP) ## Build .venv from requirements.lock (done again only when that changed).

$(STAMP): requirements.lock pyproject.toml
	@python=$$(./.ci/python) && \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  echo "Making $(VENV) with $$python"; "$$python" -m venv --clear $(VENV); fi
	@echo "Installing the locked packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: run
run: install ## Start a server; open the address it prints in two browser tabs.
	@echo "Starting Minutebook: open the address below in two browser tabs (Ctrl-C stops it)."
	@exec $(BIN)/minutebook serve $(ARGS)

.PHONY: run-cluster
run-cluster: install ## Start MongoDB, Kafka, Redis and every role as a process; open both addresses it prints.
	@exec $(BIN)/python -m docker.local.roles $(ARGS)

.PHONY: services-up
services-up: install ## Start real MongoDB, Kafka and Redis without Docker; `ARGS="--nodes 3"` for three of each.
	@$(BIN)/python -m docker.local up $(ARGS)

.PHONY: services-down
services-down: install ## Stop them; their data stay, unless with `ARGS=--wipe`.
	@$(BIN)/python -m docker.local down $(ARGS)

.PHONY: test
test: install ## Every test: the fast ones first, then the slow ones.
	@$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

.PHONY: test-fast
test-fast: install ## Only what takes less than a quarter of a second each.
	@$(BIN)/python -m pytest -n $(WORKERS) -m "not ($(SLOW))" $(ARGS)

.PHONY: test-slow
test-slow: install ## Only the others: whole servers, crashes, long histories.
	@$(BIN)/python -m pytest -n $(WORKERS) -m "$(SLOW)" $(ARGS)

.PHONY: faults
faults: install ## Hurt a whole cluster under load, a few of each kind; `ARGS="--full --report faults.md"`: all of it.
	@$(BIN)/python -m tests.faults $(ARGS)

.PHONY: lint
lint: install ## Format, style, types and the arrows between the rooms.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@! docker compose version >/dev/null 2>&1 || MINUTEBOOK_CLUSTER__SECRET=checked docker compose -f docker/compose.yml config --quiet

.PHONY: check
check: lint test-fast ## What a commit must pass: lint, the house rules and the fast tests.

.PHONY: format
format: install ## Format, and mend what can be mended by itself.
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: bench
bench: install ## Measure; every figure beside a reference from the same run (`ARGS=NAME` for one).
	@$(BIN)/minutebook bench $(or $(ARGS),--all)

.PHONY: bench-cluster
bench-cluster: install ## Measure the cluster on real MongoDB, Kafka and Redis, everything once, beside references.
	@for name in cluster mongo_append mongo_views relay command_stream; do $(BIN)/minutebook bench $$name; done

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(ARGS)

.PHONY: lock
lock: install ## Resolve the locks anew: all that running and testing need, and the parts that the image needs.
	@$(LOCK) --extra cluster --extra telemetry --extra dev pyproject.toml --output-file requirements.lock
	@$(LOCK) --extra cluster --extra telemetry --constraint requirements.lock pyproject.toml --output-file docker/requirements.lock
	@echo hatchling | $(LOCK) --constraint requirements.lock - --output-file docker/build.lock

.PHONY: clean
clean: ## Remove .venv and every cache; data folders stay.
	@rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .schemathesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
