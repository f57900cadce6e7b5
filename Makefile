# The commands of this repository; people and CI use the same ones. `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-annotate --python-version 3.11

# Some images set it for their own build; here it would make Python compile all libraries at each start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install develop up test lint format docs bench pictures gallery build lock changes clean

help: ## List the commands
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do printf '  make %-9s %s\n' "$$name" "$$text"; done

install: ## Install Cupola into its own environment, .venv
	@$(PYTHON) tools/environment.py platform

develop: ## Install also what tests, lint and docs need
	@$(PYTHON) tools/environment.py develop

up: install ## Install and start Cupola; Ctrl-C stops it
	@$(BIN)/cupola up

test: lint ## Check and test everything, as CI does
	@$(PYTHON) tools/environment.py debian
	$(BIN)/pytest -n 3 --durations 40 --durations-min 10 || $(BIN)/python tools/again.py $$?

lint: develop ## Check style, types, import contracts, sizes and changelog fragments
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache
	$(BIN)/python tools/limits.py && $(BIN)/python tools/changes.py
	$(BIN)/pytest --collect-only -q > /dev/null  # a test that cannot be imported is found here, and not after the others

format: develop ## Bring all files into shape
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

docs: develop ## Build the documentation into docs/_build/html
	$(BIN)/sphinx-build --quiet -W --keep-going -n -b html docs docs/_build/html && echo "docs/_build/html/index.html"

bench: develop ## Run the benchmarks and write benchmarks/results.md
	$(BIN)/python tools/bench.py

pictures: develop ## Take the pictures of the docs anew, with Chromium
	@$(PYTHON) tools/environment.py debian
	CUPOLA_PICTURES=docs/pictures $(BIN)/pytest tests/browser
	$(BIN)/python tools/pictures.py docs/pictures

gallery: develop ## Take the pictures of the explorers anew, with Chromium
	@$(PYTHON) tools/environment.py debian
	CUPOLA_GALLERY=docs/gallery $(BIN)/pytest tests/browser/test_explorers.py
	$(BIN)/python tools/pictures.py docs/gallery

build: develop ## Build the wheel and the source distribution into dist
	$(BIN)/uv build --quiet --no-build-isolation

lock: develop ## Compile the locked requirements anew
	$(COMPILE) requirements/uv.in -o requirements/uv.lock
	cp requirements/uv.lock environments/builder/uv.lock
	$(COMPILE) --extra platform pyproject.toml requirements/build.in -o requirements/platform.lock
	$(COMPILE) --extra lab pyproject.toml environments/lab/requirements.in -c requirements/platform.lock -o environments/lab/requirements.lock
	$(COMPILE) --extra app pyproject.toml -c environments/lab/requirements.lock -o environments/web-base/requirements.lock
	$(COMPILE) --extra all --group test --group lint --group docs pyproject.toml -c requirements/platform.lock -c environments/lab/requirements.lock -o requirements/develop.lock

changes: develop ## Gather the changelog fragments into CHANGELOG.md: make changes VERSION=0.2.0
	$(BIN)/python tools/changes.py --release $(VERSION)

clean: ## Remove what was built and cached; .venv and the platform's state stay
	rm -rf dist build docs/_build docs/reference/generated src/cupola/platform/static/vendor src/cupola/lab/vendor .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
