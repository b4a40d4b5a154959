# `make` alone lists the targets. Everything runs from .venv, which is made from the committed lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SERVE_PORT ?= 4200
AT_ONCE ?= 1
UV_COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

.DEFAULT_GOAL := help
.PHONY: help install demo test test-runtime test-large bench-runtime fuzz check format lint types contracts serve lock docs clean
.PHONY: bench-data bench-lock-up bench-pause crash-matrix fleet-trial gate-campaign gate-statistics

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# $(call install-lock,VENV,LOCK): exact versions with hashes. --no-deps, since a lock is complete.
define install-lock
$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("unify-db needs Python 3.11 or newer: make PYTHON=...")'
test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
$(1)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes -r $(2)
$(1)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
touch $(1)/.installed
endef

$(VENV)/.installed: requirements.lock pyproject.toml
	@echo "Installing from requirements.lock into $(VENV) ..."
	@$(call install-lock,$(VENV),requirements.lock)

$(VENV)-%/.installed: tests/locks/%.lock pyproject.toml
	@echo "Installing from $< into $(VENV)-$* ..."
	@$(call install-lock,$(VENV)-$*,$<)

install: $(VENV)/.installed  ## Make .venv from the lock

demo: install  ## Move a fresh copy of the example from two files to one
	@$(BIN)/unify-db demo

test: install test-runtime  ## The whole test suite
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder tests

test-runtime: $(VENV)-oldest/.installed $(VENV)-newest/.installed  ## The runtime on the oldest and the newest versions it supports
	@$(VENV)-oldest/bin/python -m pytest tests/runtime
	@$(VENV)-newest/bin/python -m pytest tests/runtime

test-large: install  ## A cell of 900 MB, within memory (minutes, 6 GB of disk)
	@UNIFY_DB_LARGE=1 $(BIN)/python -m pytest -s tests/migration/test_large_cell.py

FUZZ ?= 3000
fuzz: install  ## Arbitrary schemas, values and damage against the proof, and all other drawn tests, new every time (FUZZ=examples)
	@UNIFY_DB_FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/migration/test_any_schema.py --hypothesis-show-statistics
	@UNIFY_DB_FUZZ=1 $(BIN)/python -m pytest -m hypothesis --ignore tests/migration/test_any_schema.py tests

crash-matrix: install  ## Kill a cut-over, a rollback, and what puts them right everywhere; cut their power; writes docs/crash-matrix.md (a quarter of an hour)
	@$(BIN)/python -m benchmarks.crash_matrix

RUNS ?= 3
bench-runtime: install  ## The runtime against LangGraph's own savers; writes docs/runtime-benchmark.* (5 minutes a run)
	@$(BIN)/python -m benchmarks.runtime $(RUNS)

check: install format lint types contracts  ## Format, lint, types and import contracts

format: install
	@$(BIN)/ruff format --check .

lint: install
	@$(BIN)/ruff check .

types: install
	@$(BIN)/mypy

contracts: install
	@$(BIN)/lint-imports

serve: install  ## Prefect's pages on 127.0.0.1:4200, all deployments and workers (AT_ONCE=1; Ctrl-C ends all)
	@$(BIN)/python -m flows.serve --port $(SERVE_PORT) --at-once $(AT_ONCE)

lock:  ## Resolve all locks anew (needs uv on the path)
	$(UV_COMPILE) pyproject.toml --extra flow --group dev --group example --no-strip-extras -o requirements.lock
	$(UV_COMPILE) tests/locks/oldest.in -o tests/locks/oldest.lock
	$(UV_COMPILE) tests/locks/newest.in -o tests/locks/newest.lock

bench-data: install  ## What the data path costs: tables and a plot in docs/ (about half an hour, 20 GB of disk)
	@$(BIN)/python -m benchmarks.data_path

bench-pause: install  ## How long a cut-over keeps an application away; writes docs/write-pause.* (5 minutes, 6 GB of disk)
	@$(BIN)/python -m benchmarks.write_pause

bench-lock-up: install  ## What merging two files alone does to an application; writes docs/lock-up.md (2 minutes)
	@$(BIN)/python -m benchmarks.lock_up

fleet-trial: install  ## Ten small applications moved by a fleet with two workers; writes docs/fleet.md (about ten minutes)
	@$(BIN)/python -m benchmarks.fleet_trial --write

gate-campaign: install  ## Real runs of the gates with something planted; writes docs/gate-campaign.* (one to three hours, goes on where it was)
	@$(BIN)/python -m benchmarks.gate_campaign

gate-statistics: install  ## Is the benchmark's gate right? Noise measured, gates simulated; writes docs/gate-statistics.* (half an hour)
	@$(BIN)/python -m benchmarks.gate_statistics --measure --write

docs: install  ## Make the generated pages again
	@$(BIN)/python -m unified_db.migration.reference > docs/configuration.md
	@$(BIN)/python -m flows.reference > docs/cli.md
	@$(BIN)/python docs/figures.py
	@$(BIN)/python docs/pictures.py
	@$(BIN)/python -m tests.test_examples

clean:  ## Remove everything that the targets made
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
