# `make` lists the targets. Each target installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
NPM := npm --loglevel=error --no-update-notifier
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
# In the order of tests/conftest.py: the modules that take longest begin first.
PYTEST := $(BIN)/python -m pytest -n 2 --dist=loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo dev docs test test-fast test-long test-all fuzz clients check format bench self-host deploy key clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: .venv/.installed node_modules/.installed python_modules/.requirements-worker.txt ## Install what the other targets need

.venv/.installed: requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name it: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

node_modules/.installed: package.json package-lock.json
	$(NPM) ci
	@touch $@

python_modules/.requirements-worker.txt: requirements-worker.txt .venv/.installed
	$(BIN)/python local/vendor.py
	@touch $@

demo: setup ## Run the gateway with an echo provider and a trace inbox, offline
	@PYTHONPATH=src $(BIN)/python -m local demo

dev: setup ## Run the gateway with real providers, and with an inbox unless a Langfuse is set
	@PYTHONPATH=src $(BIN)/python -m local dev

docs: setup ## Write what the docs have from the source: tables, messages, names of settings
	@PYTHONPATH=src $(BIN)/python -m local.docs

test: setup ## Run the tests
	$(PYTEST)

test-fast: setup ## Run the unit tests of what has changed since the last commit
	HYPOTHESIS_PROFILE=fast $(BIN)/python -m pytest -q $$($(BIN)/python tests/changed.py)

test-long: setup ## Run only the long tests
	$(PYTEST) -m 'long and not clients'

test-all: export HYPOTHESIS_PROFILE = long
test-all: test test-long ## Run all tests, also the long ones

fuzz: setup ## Run the property tests with 10,000 examples each
	HYPOTHESIS_PROFILE=fuzz $(PYTEST) -m hypothesis --timeout=7200

clients: setup ## Install the clients of docs/clients.md and test each against the gateway
	$(BIN)/python clients/install.py
	REQUIRE_CLIENTS=1 $(PYTEST) tests/clients -m clients

check: setup ## Lint and check the types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	pyright --warnings

format: setup ## Format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup .venv/.bench-installed ## Measure what the gateway costs: make bench ARGS=--quick
	@PYTHONPATH=src $(BIN)/python -m bench $(ARGS)

.venv/.bench-installed: bench/requirements.txt constraints.txt .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt
	@touch $@

self-host: setup ## Build dist/, to run the gateway on your own machine: docs/self-hosting.md
	@PYTHONPATH=src $(BIN)/python -m local.selfhost $(ARGS)

deploy: setup ## Deploy to Cloudflare
	wrangler deploy

key: setup ## Make a gateway key: make key NAME=alice
	@PYTHONPATH=src $(BIN)/python -m local key $(NAME)

clean: ## Remove all that was installed or built
	rm -rf .venv node_modules python_modules .clients clients/*/node_modules .wrangler .pytest_cache .ruff_cache .hypothesis dist
