# The two commands of a newcomer: `make run` and `make test`. Both make what they need; both are safe to repeat.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.podstrap-installed

.PHONY: help setup run test test-gpu lint unit browser bench-warm-start bench-idle bench-console soak clean

help:  ## What can be typed here
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 28

setup: $(STAMP)  ## Make .venv with podstrap and everything its tests need

$(STAMP): pyproject.toml
	@command -v git >/dev/null || { echo "make: git is needed and was not found: install it first" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "make: Python 3.10 or newer is needed ($(PYTHON) is older): make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[dev]'
	@touch $(STAMP)

run: setup  ## The main job end to end on this machine: server, two queues, two real tasks (KEEP=1 leaves the page open)
	$(BIN)/python -m cli.main demo $(if $(KEEP),--keep)

test: lint unit  ## Everything that must hold: style, types, layers, tests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup browser
	$(BIN)/pytest --numprocesses $(or $(JOBS),3) --dist loadgroup $(PYTEST)

browser:  # the page's tests need a browser; on Debian, as root, it is installed when it is missing
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	  echo "make: installing chromium for the page's tests" && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
	  echo "make: no chromium: the page's tests will fail; install it (Debian: apt-get install chromium)" >&2

bench-warm-start: setup  ## Seconds to a task's first line, warm, beside the same steps by hand; ends with one line of JSON
	@$(BIN)/python bench/warm_start.py

bench-idle: setup  ## Resident memory of idle standalone + controller; ends with one line of JSON
	@$(BIN)/python bench/idle_memory.py

bench-console: setup  ## A million lines through bootstrap, then clearml-agent, each accounted for (LINES_SENT=, RATE=, PEER=0)
	@$(BIN)/python bench/console.py

test-gpu: setup  ## The GPU monitor against the real driver of this machine
	$(BIN)/pytest tests/bootstrap/test_monitor.py -k real_driver -rs

soak: setup  ## The fault tests with many seeds (SEEDS=: 50 for kill -9 of everything, 200 for the console)
	PODSTRAP_FAULT_SEEDS=$(or $(SEEDS),50) PODSTRAP_CONSOLE_SEEDS=$(or $(SEEDS),200) $(BIN)/pytest tests/faults --timeout 3600

clean:  ## Remove .venv and what was made
	rm -rf $(VENV) .podstrap .mypy_cache .ruff_cache
