# The commands of .ci/run by name. BIN is where the tools are: make check BIN=/some/venv/bin
BIN ?= .venv/bin
PYTHON ?= python3
PYTEST = $(BIN)/python -m pytest

.PHONY: help venv quickstart test lint types arch check generate bench e2e matrix chaos clean

help: ## Show this
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "make %-12s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: ## Set up .venv with pmx (editable) and the tools
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --editable '.[dev]'

quickstart: ## The README's first command: install, start a web server, show it
	$(PYTHON) -m venv .venv && .venv/bin/pip install --quiet . && .venv/bin/pmx start examples/hello.py -i max && .venv/bin/pmx ls

test: venv ## The README's second command: install with the tools, run the whole test suite
	.venv/bin/python -m pytest --numprocesses 2

lint: ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: ## mypy, strict
	$(BIN)/mypy

arch: ## Who may import what, sizes, start-up, generated files
	$(PYTEST) --quiet tests/test_architecture.py tests/test_generated.py

check: lint types arch ## What is quick: lint, types, arch

generate: ## Write completions and docs/reference
	$(BIN)/python tools/generate.py

bench: ## pmx and its peers, side by side
	$(BIN)/python -m benchmarks

e2e: ## Only the tests on real processes
	$(PYTEST) --numprocesses 2 tests/integration tests/e2e

matrix: ## Two workers of each of thirty unmodified servers behind one port; installs them first
	$(BIN)/python -m tests.matrix.install
	$(PYTEST) --numprocesses 2 tests/matrix

chaos: ## Kill the daemon a hundred times
	PMX_CHAOS_KILLS=100 $(PYTEST) --timeout 900 tests/chaos

clean: ## Remove caches and builds; .venv stays
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
