# What a newcomer types. Every target works on a fresh Debian or Ubuntu machine, as root.
.DEFAULT_GOAL := help
BIN := .venv/bin
# Tests mostly wait for processes: more of them than cores, each file on one.
WORKERS := -n 4 --dist loadfile

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: .venv/run.stamp  ## install what it needs, start a container, drive it from both command lines
	@tools/demo.sh

test: .venv/dev.stamp .venv/peers.stamp  ## the whole test suite, beside the real peers; the virtual machine has this one to itself
	$(BIN)/python -m tools.suite $(WORKERS) --ignore tests/vm
	$(BIN)/python -m tools.suite tests/vm

test-vm: .venv/dev.stamp .venv/peers.stamp  ## the part of it that runs in a virtual machine: cgroup version 2, AppArmor
	$(BIN)/pytest tests/vm

check: .venv/dev.stamp  ## format, lint, types, layers, unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/unit tests/test_layers.py tests/test_tidy.py tests/test_imports.py
	@$(BIN)/python tools/longest.py

search: .venv/dev.stamp  ## look for new failing values with the property tests of units: other ones at each run
	HYPOTHESIS_PROFILE=search $(BIN)/pytest $(WORKERS) -m hypothesis tests/unit

interop: .venv/dev.stamp .venv/peers.stamp  ## who works with whom: run those tests, write docs/interop.md and docs/commands.md
	$(BIN)/python -m tools.interop
	$(BIN)/python -m tools.commands

suites: .venv/dev.stamp .venv/peers.stamp .venv/suites.stamp  ## the peers' own test suites on the peers and on ours: write docs/suites.md (half an hour)
	$(BIN)/python -m tools.suites

bench: .venv/dev.stamp .venv/peers.stamp  ## ratios of times and memory against the installed peers
	$(BIN)/python -m bench

install: .venv/run.stamp  ## the programs in .venv/bin, with what they need

stop-demo:  ## remove what `make demo` left running
	@tools/demo.sh stop

clean:  ## remove the environment
	rm -rf .venv build

.venv/run.stamp: requirements/runtime.txt pyproject.toml tools/setup.sh tools/launchers.py
	tools/setup.sh run

.venv/dev.stamp: requirements/dev.txt pyproject.toml tools/setup.sh tools/launchers.py
	tools/setup.sh dev

.venv/peers.stamp: tools/setup.sh tools/kernel.sh tests/vm/init
	tools/setup.sh peers

.venv/suites.stamp: tools/setup.sh
	tools/setup.sh suites

.PHONY: help demo test test-vm check search interop suites bench install stop-demo clean
