# The two commands of a newcomer: `make run` and `make test`. Both make what they need; both are safe to repeat.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NAMESPACE ?= podstrap
STAMP := $(VENV)/.podstrap-installed

.PHONY: help setup run test test-cluster test-node test-gpu test-images lint unit browser tools soak clean install chart docs images image-sizes image-requirements bench-warm-start bench-cold-start bench-idle bench-console bench-dispatch bench-watch bench-node

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

unit: setup browser tools
	$(BIN)/pytest --numprocesses $(or $(JOBS),3) --dist loadgroup --ignore tests/cluster --ignore tests/images $(PYTEST)

test-cluster: setup  ## On a real Kubernetes that it builds and starts here (minutes the first time; root for the real node)
	@$(BIN)/python -m tests.cluster.prepare
	$(BIN)/pytest tests/cluster --numprocesses $(or $(JOBS),2) --dist loadgroup --timeout 600 $(PYTEST)

test-node: setup  ## The part of it that needs the real node (root): tasks made by clearml-task, baked and injected
	@$(BIN)/python -m tests.cluster.prepare
	$(BIN)/pytest tests/cluster/test_node*.py tests/cluster/test_cases.py -k 'not simulated' --numprocesses 0 --timeout 600 $(PYTEST)

IMAGES ?=
images: setup  ## Build the images with docker, podman or buildah (IMAGES="task controller" PREFIX= TAG= PLATFORM= PUSH=1 BASE= ENGINE=)
	@$(BIN)/python images/build.py $(IMAGES) $(if $(ENGINE),--engine $(ENGINE)) $(if $(PREFIX),--prefix $(PREFIX)) $(if $(TAG),--tag $(TAG)) \
	  $(if $(PLATFORM),--platform $(PLATFORM)) $(if $(BASE),--base $(BASE)) $(if $(BUILD_BASE),--build-base $(BUILD_BASE)) $(if $(PUSH),--push) \
	  $(if $(CERTIFICATES),--certificates $(CERTIFICATES)) $(if $(OPTIONS),--options '$(OPTIONS)')

test-images: setup  ## The images, built here by buildah, and whole tasks in foreign ones (root, Debian; minutes the first time)
	@$(BIN)/python -m tests.cluster.prepare
	$(BIN)/pytest tests/images --numprocesses 0 --timeout 900 $(PYTEST)

image-sizes: setup  ## Megabytes of each image and folder; ends with one line of JSON
	@$(BIN)/python bench/image_sizes.py

LOCK = env -u PIP_FIND_LINKS $(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
image-requirements: setup  ## Pin the images' Python packages anew, with hashes (images/requirements/)
	$(LOCK) pyproject.toml --extra pod --output-file images/requirements/bootstrap.txt
	$(LOCK) pyproject.toml --extra controller --output-file images/requirements/controller.txt
	$(LOCK) images/requirements/builder.in --output-file images/requirements/builder.txt

browser:  # the page's tests need a browser; on Debian, as root, it is installed when it is missing
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	  echo "make: installing chromium for the page's tests" && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
	  echo "make: no chromium: the page's tests will fail; install it (Debian: apt-get install chromium)" >&2

tools:  # the repository's tests use real servers; on Debian, as root, what is missing is installed
	@test -n "$$(command -v git-lfs)" -a -x "$$(command -v sshd || echo /usr/sbin/sshd)" -a -n "$$(command -v ssh-keygen)" || { \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	  echo "make: installing git-lfs and openssh for the repository's tests" && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends git-lfs openssh-server openssh-client >/dev/null; } || \
	  echo "make: no git-lfs or sshd: tests of repositories will fail; install them (Debian: apt-get install git-lfs openssh-server)" >&2

bench-warm-start: setup  ## Seconds to a task's first line, warm, beside the same steps by hand; ends with one line of JSON
	@$(BIN)/python bench/warm_start.py

bench-cold-start: setup  ## Cold and warm first line beside clearml-agent and the steps by hand; ends with one line of JSON (ROUNDS=)
	@$(BIN)/python bench/cold_start.py

bench-idle: setup  ## Resident memory of idle standalone + controller; ends with one line of JSON
	@$(BIN)/python bench/idle_memory.py

bench-console: setup  ## A million lines through bootstrap, then clearml-agent, each accounted for (LINES_SENT=, RATE=, PEER=0)
	@$(BIN)/python bench/console.py

test-gpu: setup  ## The GPU monitor against the real driver of this machine
	$(BIN)/pytest tests/bootstrap/test_monitor.py -k real_driver -rs

bench-dispatch: setup  ## Milliseconds from queue to Job beside a bare loop and ClearML's glue (TASKS=, GLUE_TASKS=, ROUNDS=)
	@$(BIN)/python bench/dispatch.py

bench-watch: setup  ## Resident memory of a controller that watches 10,000 Jobs and pods, under churn (JOBS_WATCHED=)
	@$(BIN)/python bench/watch.py

bench-node: setup  ## The start-up timeline of real pods, baked and injected, on a real node (root); ends with one line of JSON (ROUNDS=)
	@$(BIN)/python bench/node.py

install:  ## On the cluster of your kubeconfig, without helm: deploy/podstrap.yaml (NAMESPACE=)
	@kubectl get namespace $(NAMESPACE) >/dev/null 2>&1 || kubectl create namespace $(NAMESPACE)
	@kubectl -n $(NAMESPACE) get secret podstrap-clearml >/dev/null 2>&1 || { \
	  test -n "$$CLEARML_API_ACCESS_KEY" -a -n "$$CLEARML_API_SECRET_KEY" || { \
	  echo "make: give CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY (ClearML's web page: Settings, Workspace, Create new credentials)" >&2; exit 1; }; \
	  printf 'CLEARML_API_ACCESS_KEY=%s\nCLEARML_API_SECRET_KEY=%s\n' "$$CLEARML_API_ACCESS_KEY" "$$CLEARML_API_SECRET_KEY" | \
	  kubectl -n $(NAMESPACE) create secret generic podstrap-clearml --from-env-file=/dev/stdin; }
	sed -E 's/^( *namespace: "?)podstrap("?)$$/\1$(NAMESPACE)\2/' deploy/podstrap.yaml | kubectl apply -f -

chart: setup  ## Write what in the chart follows from the code: its schema, Role, table of values, plain manifests
	$(BIN)/python -m charts.generate "$$($(BIN)/python -c 'from tests.cluster import tools; print(tools.helm())')"

docs: setup  ## Write the reference pages that follow from the code: settings, metrics, exit codes and variables
	$(BIN)/python -m charts.reference

soak: setup  ## The fault tests with many seeds (SEEDS=50 kills of everything, CONSOLE_SEEDS=200, CRASH_SEEDS=200 on Kubernetes)
	PODSTRAP_FAULT_SEEDS=$(or $(SEEDS),50) PODSTRAP_CONSOLE_SEEDS=$(or $(CONSOLE_SEEDS),200) $(BIN)/pytest tests/faults --timeout 3600
	PODSTRAP_CRASH_SEEDS=$(or $(CRASH_SEEDS),200) $(BIN)/pytest tests/cluster/test_crash.py --timeout 3600

clean:  ## Remove .venv and what was made
	rm -rf $(VENV) .podstrap .mypy_cache .ruff_cache
