# Targets call commands of the project; they hold no logic.
# The first use of a target sets up what it needs in .venv, from a lock (pinned, hashed).
PYTHON ?= python3
OUT ?= build/demo
WINDOW ?= 224
SAMPLES ?= 0
PARALLEL ?= --numprocesses auto --maxprocesses 5 --dist loadfile
BIN := .venv/bin
SHELL := /bin/bash
# Python's default, even where the caller switched it off: the demo and the tests start many processes,
# and each would compile every library anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test test-slow test-postgres check format bench docs lock clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s "$$(printf '\t')"

setup: .venv/.test  ## Make .venv with everything that demo, test and check need

# A lock is a superset of the one before it: the demo needs neither TensorFlow nor the test tools.
.venv/.demo: requirements.lock pyproject.toml .ci/install
	@PYTHON=$(PYTHON) .ci/install requirements.lock
	@touch $@

.venv/.test: requirements-test.lock pyproject.toml .ci/install
	@PYTHON=$(PYTHON) .ci/install requirements-test.lock
	@touch $@ .venv/.demo

.venv/.docs: requirements-docs.lock | .venv/.demo
	@PYTHON=$(PYTHON) .ci/install requirements-docs.lock
	@touch $@

demo: .venv/.demo  ## Whole data flow: SCENE=path-or-href OUT=dir SCALE= OFFSET= DATETIME= SAMPLES= SERVE=1
	@$(BIN)/python -m lai_demo --out "$(OUT)" --scene "$(SCENE)" --scale "$(SCALE)" --offset "$(OFFSET)" \
		--datetime "$(DATETIME)" --samples $(SAMPLES) --window $(WINDOW) $(if $(MODEL),--model "$(MODEL)") $(if $(SERVE),--serve)

test: .venv/.test  ## Every test that needs no GPU, network or PostgreSQL
	$(BIN)/python -m pytest $(PARALLEL) -m "not network and not gpu and not postgres and not slow" $(ARGS)

test-slow: .venv/.test  ## The tests that take longer: load, kills, fuzzing, whole scenes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1' # it has --group
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group conformance
	$(BIN)/python -m pytest -m "slow and not network and not gpu and not postgres" --timeout 900 $(ARGS)

test-postgres: .venv/.test  ## Tests of the service over PostgreSQL with PostGIS
	$(BIN)/python -m pytest -m "postgres and not slow" tests/service $(ARGS)

check: .venv/.test  ## Format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.test  ## Put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.test  ## Measured speeds, as ratios of one run
	$(BIN)/python benchmarks/sl2p.py
	$(BIN)/python benchmarks/catalogue.py
	$(BIN)/python benchmarks/timeseries.py
	$(BIN)/python benchmarks/predict.py $(if $(SIZE),--size $(SIZE))

docs: .venv/.docs  ## Documentation site in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

EXPORT := uv export --quiet --format requirements-txt --no-emit-project --no-annotate --no-header
lock:  ## Resolve anew (needs uv): pinned, hashed, no addresses; one resolution, three exports
	uv lock
	$(EXPORT) --extra service --group backend --group build --output-file requirements.lock
	$(EXPORT) --all-extras --group backend --group build --group check --group test --output-file requirements-test.lock
	$(EXPORT) --only-group docs --output-file requirements-docs.lock

clean:  ## Remove what was built; .venv stays
	rm -rf build dist runs .pytest_cache .mypy_cache .ruff_cache
