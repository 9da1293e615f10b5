# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := src client conformance tests conftest.py bench examples
# The distributions of this repository are installed from it and stand in no lock.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-package aitp-cp-client --no-emit-package aitp-cp-conformance
INSTALL_HERE := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation

.DEFAULT_GOAL := help
.PHONY: help run test check fmt acceptance torture bench bench-growth images lock docs clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(STAMP) ## serve on :4000 with an embedded Postgres and kept development secrets
	@$(BIN)/aitp-cp dev

test: check ## lint, types, floors and the whole test suite
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 4 --dist worksteal

check: $(STAMP) ## lint, types and floors only
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fmt: $(STAMP) ## format the code and fix what the linter can
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

acceptance: $(STAMP) ## what is too heavy for `make test`, alone on its machine
	@HOSTILE_CONNECTIONS=1000 $(BIN)/python -m pytest -n 0 -s tests/field/test_hostile_connections.py
	@FAILOVER_PROMOTIONS=20 $(BIN)/python -m pytest -n 0 -s tests/field/test_failover.py
	@CONSOLE_TABS=20 AXE=all $(BIN)/python -m pytest -n 0 -s tests/browser/test_frame.py
	@CRAWL=auditor,operator,admin,operator-noscript $(BIN)/python -m pytest -n 0 -s tests/browser/test_story.py
	@EXPLORE=1 $(BIN)/python -m pytest -n 4 tests/protocol tests/tcts tests/ingest tests/containment tests/keys tests/agent_auth \
		tests/field/test_callers_of_one_row.py
	@REPORTER_KILLS=1000 $(BIN)/python -m pytest -n 0 -s client/tests/reporting/test_live.py -k kill

torture: $(STAMP) ## break everything for MINUTES (20), then look for what is lost; SEED repeats a run
	@$(BIN)/python -m tests.torture --minutes $(or $(MINUTES),20) $(if $(SEED),--seed $(SEED))

bench: $(STAMP) ## measure rates and latencies on this machine
	@$(BIN)/python -m bench

bench-growth: $(STAMP) ## the reads with ten thousand, one million and five million events
	@$(BIN)/python -m bench growth

docs: $(STAMP) ## render the files that are generated from the code
	@$(BIN)/python -m tests.support.rendered

images: $(STAMP) ## take the pictures of docs/console.md and the README, in a real browser
	@IMAGES=docs/images $(BIN)/python -m pytest -n 0 tests/browser/test_story.py

lock: $(STAMP) ## resolve the newest dependencies and pin them with hashes
	@$(COMPILE) --upgrade pyproject.toml --extra oidc -o requirements.lock
	@$(COMPILE) --upgrade pyproject.toml conformance/pyproject.toml --extra embedded --extra oidc --group dev -o requirements-dev.lock

clean: ## remove the virtual environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements-dev.lock pyproject.toml client/pyproject.toml conformance/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it with: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "the venv module of $(PYTHON) is needed"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements-dev.lock
	@$(INSTALL_HERE) -e .
	@$(INSTALL_HERE) -e client -e conformance
	@touch $@
