# Newcomers: `make demo` and `make test` do all the set-up that they need. `make` alone lists the rest.
# As root on a bare Debian 12: apt-get install make

PY := .venv/bin/python
PYTEST := $(PY) -m pytest
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test unit store-tests mount-tests faults soak check format bench image sanitize sanitize-threads clean

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: ## set up, then show a bucket mounted and read, cold and warm, with figures
	@scripts/bootstrap demo
	@$(PY) -m fluidfs demo

test: ## set up, then run all tests (as root, or those of an ordinary user)
	@scripts/bootstrap test
	@echo "test: unit tests, a real S3 server, real mounts, faults: about as long as a coffee"
	@$(PYTEST) $(if $(findstring tests/,$(ARGS)),,tests) $(ARGS)

unit: ## tests without mount and network: seconds
	@scripts/bootstrap test
	@$(PYTEST) tests/unit $(ARGS)

store-tests: ## tests against a real S3 server
	@scripts/bootstrap test
	@$(PYTEST) tests/store $(ARGS)

mount-tests: ## tests through a real FUSE mount
	@scripts/bootstrap test
	@$(PYTEST) tests/mount $(ARGS)

faults: ## tests that kill servers, daemons and connections
	@scripts/bootstrap test
	@$(PYTEST) tests/faults $(ARGS)

soak: ## 100 kills, mixed faults, random reads: half an hour (ARGS="--soak-minutes 60 --soak-kills 500 --soak-seed 7")
	@scripts/bootstrap test
	@$(PYTEST) tests/soak -s $(ARGS)
	@FLUIDFS_FUZZ_EXECUTIONS=50000000 $(PYTEST) tests/unit/test_relay_fuzz.py

check: ## lint, format, types, import order, C headers
	@scripts/bootstrap check
	@echo "check: ruff (lint)"; $(PY) -m ruff check
	@echo "check: ruff (format)"; $(PY) -m ruff format --check
	@echo "check: mypy"; $(PY) -m mypy
	@echo "check: mypy (benchmarks, images and what tests share)"; $(PY) -m mypy benchmarks images tests/support tests/conftest.py
	@echo "check: import order"; .venv/bin/lint-imports
	@echo "check: C headers and sources, warnings are errors"; scripts/check-native
	@echo "check: shell scripts"; sh -n scripts/bootstrap; sh -n scripts/check-native; sh -n images/build; sh -n images/lock; bash -n scripts/sanitize; bash -n .ci/run

format: ## let ruff format and fix what it can
	@scripts/bootstrap check
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

bench: ## fluidfs beside rclone, s3fs and JuiceFS (ARGS="--quick", see ARGS="--help")
	@scripts/bootstrap bench
	@$(PY) -m benchmarks $(ARGS)

image: ## the container image as an OCI layout: build/fluidfs-image.tar (as root)
	@scripts/bootstrap test
	@PYTHON=$(PY) images/build $(ARGS)

sanitize: ## native tests with AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/bootstrap test
	@scripts/sanitize address,undefined

sanitize-threads: ## native tests with ThreadSanitizer
	@scripts/bootstrap test
	@scripts/sanitize thread

clean: ## remove what was built: .venv, build, caches
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	rm -f fluidfs/_native/*.so
	find fluidfs tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
