# `make setup` makes .venv with every extra, and compiles the loops ahead. Every other target does what it needs of that.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WARM := $(VENV)/.warm

.PHONY: setup lint format test test-slow test-faults bench docs demo clean

setup: $(WARM)

# torch first and pinned: an open requirement would choose another build of it.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Premask needs Python 3.11 or newer; name one: make PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(INSTALLED)

$(WARM): $(INSTALLED)
	$(BIN)/python -m pipelines.warm
	@touch $(WARM)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Two processes at a time, a file in one: its fixtures are made once. Each package is to be covered, not only their sum.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered
	@for package in mlm_data pipelines trainer; do \
	  $(BIN)/coverage report --include="$$package/*" --format=total --fail-under=90 >/dev/null || \
	    { echo "$$package: less than 90 % of its lines are covered" >&2; exit 1; }; \
	done

# What takes minutes: every corpus, every tokenizer, a million strings, whole builds of books.
test-slow: setup
	$(BIN)/python -m pytest -m slow

# Builds to which something happens, some hundred times: docs/explanation/reliability.md says what comes of it.
test-faults: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m faults tests/faults

bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m pytest -m bench -s --no-header -q tests/bench

# What is made from the code, and the site from all pages; strict: a dead link or a lost page is an error.
docs: $(INSTALLED)
	$(BIN)/python -m docs.tools.reference
	$(BIN)/python -m docs.tools.pictures
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

demo: setup
	$(BIN)/premask demo

clean:
	rm -rf $(VENV) demo site
