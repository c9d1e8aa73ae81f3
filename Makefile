# Stele. `make run` starts a three-node cluster, `make test` runs the tests; both set up what they need.
# Nothing but Python 3.11-3.13, make and a package index is required.

# A Python whose library is a shared object answers a tenth fewer writes (docs/operating.md, "Which Python"). So
# where python3 is one, and the system's is none, that is taken. `make PYTHON=...` takes any other.
SUITED := import sys, ensurepip, venv; v = sys.version_info[:2]; \
	sys.exit(not (3, 11) <= v <= (3, 13) or "libpython" in open("/proc/self/maps").read())
PYTHON ?= $(shell for each in python3 /usr/bin/python3; do \
	$$each -c '$(SUITED)' 2>/dev/null && echo $$each && exit; done; echo python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.setup-stamp

# Where `make run` keeps its data and which ports it takes (node i serves on PORT + i).
DATA ?= var/demo
PORT ?= 7400
# Processes that run tests side by side.
WORKERS ?= 2
# Seeds that `make simulate` plays, first..last.
SEEDS ?= 0..9999
# What `make chaos` passes on, for example CHAOS="--minutes 60 --seed 7" or CHAOS="--scenario zone-lost".
CHAOS ?= --minutes 3
# What `make bench` passes on, for example BENCH="--quick".
BENCH ?=

.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow simulate chaos check format bench lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## make .venv with everything in it

# From scratch, because another Python's leftovers break it.
# The lock is complete, so pip installs exactly what it names (--no-deps) and checks every hash.
$(STAMP): requirements.lock pyproject.toml sdk/pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and "Stele needs Python 3.11 to 3.13, this is %d.%d; say make PYTHON=python3.13" % v)'
	@echo "Setting up $(VENV) with $(PYTHON) (a minute or two the first time)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e ./sdk -e .
	@touch $@

run: $(STAMP)  ## start three nodes in three zones with a sample ledger
	@exec $(BIN)/steled demo --nodes 3 --data $(DATA) --port $(PORT)

test: $(STAMP)  ## run the tests (without the slow ones)
	$(BIN)/python -m pytest -q -n $(WORKERS) --durations=10

test-slow: $(STAMP)  ## run the slow tests: crashes, fuzzing, real data
	$(BIN)/python -m pytest -q -m slow --timeout 1200 --durations=10

simulate: $(STAMP)  ## play whole clusters under faults, a seed a history
	$(BIN)/python -m chaos simulate --seeds $(SEEDS) --jobs $(WORKERS)

chaos: $(STAMP)  ## break real nodes in simulated zones for three minutes
	$(BIN)/python -m chaos run $(CHAOS)

check: $(STAMP)  ## formatting, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(STAMP)  ## format the code and apply safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## measure Stele, and etcd beside it when it is installed
	$(BIN)/python -m bench $(BENCH)

# Versions and hashes for every supported Python; no index address gets into it.
lock: $(STAMP)  ## write requirements.lock anew from the two pyproject.toml files
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --no-emit-package stele-ledger \
		--upgrade --group dev -o requirements.lock pyproject.toml

clean:  ## remove what make and the tools made, data included
	rm -rf $(VENV) var build dist sdk/build sdk/dist *.egg-info sdk/*.egg-info
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
