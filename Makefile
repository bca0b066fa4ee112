# Everything the project needs is installed into .venv; nothing else on the machine is touched.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
SOURCES_OF_THE_INSTALL := pyproject.toml constraints.txt fourdvd_cli/__init__.py \
	$(wildcard hatch_build.py recon/native/src/*)

.PHONY: setup demo test check bench clean

## setup: make .venv with everything; takes seconds when it is there already
setup: $(STAMP)

$(STAMP): $(SOURCES_OF_THE_INSTALL)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "fourdvd needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "installing into .venv; the first time takes minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e ".[dev,data,cluster]"
	@touch $@

## demo: a 4D asset from the bundled video, in out/demo
demo: setup
	$(BIN)/fourdvd run examples/robot.mp4 -o out/demo --format ply --format glb

## test: the tests that need no GPU and no weights
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

## check: format, lint, types, and who may import whom
check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

## bench: the tables of the README, measured on this machine
bench: setup
	$(BIN)/python -m tests.benchmarks

## clean: remove what the other targets made
clean:
	rm -rf .venv out .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
