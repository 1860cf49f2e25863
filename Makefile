# Targets call commands of the project; they hold no logic.
# The first use sets up .venv from requirements.lock (pinned, hashed); later uses go straight on.
PYTHON ?= python3
OUT ?= build/demo
WINDOW ?= 224
SAMPLES ?= 0
BIN := .venv/bin
SHELL := /bin/bash

.PHONY: help setup demo test test-slow test-postgres check format bench docs lock clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s "$$(printf '\t')"

setup: .venv/.ready  ## Make .venv with everything that demo, test and check need

.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: .venv/.ready  ## Whole road: SCENE=path-or-href OUT=dir SCALE= OFFSET= DATETIME= SAMPLES= SERVE=1
	@$(BIN)/python -m lai_demo --out "$(OUT)" --scene "$(SCENE)" --scale "$(SCALE)" --offset "$(OFFSET)" \
		--datetime "$(DATETIME)" --samples $(SAMPLES) --window $(WINDOW) $(if $(MODEL),--model "$(MODEL)") $(if $(SERVE),--serve)

test: .venv/.ready  ## Every test that needs no GPU, network or PostgreSQL
	$(BIN)/python -m pytest -m "not network and not gpu and not postgres and not slow" $(ARGS)

test-slow: .venv/.ready  ## The tests that take minutes: load, kills, fuzzing
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group conformance
	$(BIN)/python -m pytest -m "slow and not network and not gpu and not postgres" --timeout 900 $(ARGS)

test-postgres: .venv/.ready  ## Tests of the service over PostgreSQL with PostGIS
	$(BIN)/python -m pytest -m "postgres and not slow" tests/service $(ARGS)

check: .venv/.ready  ## Format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.ready  ## Put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.ready  ## Measured speeds, as ratios of one run
	$(BIN)/python benchmarks/sl2p.py
	$(BIN)/python benchmarks/catalogue.py
	$(BIN)/python benchmarks/timeseries.py
	$(BIN)/python benchmarks/predict.py $(if $(SIZE),--size $(SIZE))

docs: .venv/.ready  ## Documentation site in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock:  ## Resolve anew (needs uv): pinned, hashed, no addresses
	uv lock
	uv export --quiet --format requirements-txt --no-emit-project --all-extras --all-groups --no-group conformance \
		--no-annotate --no-header --output-file requirements.lock

clean:  ## Remove what was built; .venv stays
	rm -rf build dist runs .pytest_cache .mypy_cache .ruff_cache
