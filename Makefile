# Forebay. `make` alone explains itself.
.DEFAULT_GOAL := help
.PHONY: help demo up test coverage chaos chaos-long planted check scan docs load image lock clean
SHELL := /bin/bash
PYTHON := .venv/bin/python
export PYTHONPATH := services:.
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE_ARGS = --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse --short HEAD 2>/dev/null)
# uv's settings of the lock files: hashes, no download host, all platforms from Python 3.11.
COMPILE = .venv/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11

SEED ?= $(shell date +%s)
# The suite waits for servers half of its time: three processes, each with servers of its own, fill two cores.
WHOLE_SUITE = --numprocesses=3 --dist=worksteal
CHAOS = $(PYTHON) -m pytest tests/chaos -p no:randomly --seed=$(SEED)

help: ## Show this
	@echo "Forebay: slow API calls accepted at once, digested at the rate the providers bear."
	@echo
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "RabbitMQ and MongoDB come from FOREBAY_AMQP_URL and FOREBAY_MONGODB_URL, from Docker, or from this"
	@echo "machine, in this order; FOREBAY_SERVERS=urls, docker or machine forces one."

demo: ## The whole system, 500 requests at once, and how they are digested (ends by itself)
	@scripts/setup.sh local
	@$(PYTHON) -m forebay.local demo

up: ## The whole system until Ctrl-C
	@scripts/setup.sh local
	@$(PYTHON) -m forebay.local up

test: ## The whole test suite, on real servers (ARGS=... goes to pytest)
	@scripts/setup.sh dev
	@$(PYTHON) -m forebay.local prepare
	@$(PYTHON) -m pytest $(or $(ARGS),$(WHOLE_SUITE))

coverage: ## The same, and how much of services/ it runs (takes longer)
	@scripts/setup.sh dev
	@$(PYTHON) -m forebay.local prepare
	@$(PYTHON) -m pytest --cov --cov-report=term:skip-covered --cov-fail-under=90 $(WHOLE_SUITE)

chaos: ## Inject faults into the whole system, a few minutes; table, tests/chaos/report.json (SEED=... ARGS=...)
	@scripts/setup.sh dev
	@$(PYTHON) -m forebay.local prepare
	@$(CHAOS) --chaos=short --numprocesses=2 --dist=loadfile $(ARGS)

chaos-long: ## The same at length, three to four hours; then docs/reliability-report.md from it (SEED=... ARGS=...)
	@scripts/setup.sh dev
	@$(PYTHON) -m forebay.local prepare
	@$(CHAOS) --chaos=long $(ARGS)
	@$(PYTHON) -m scripts.reliability_report

planted: ## Take guards out of copies of the product; the suites must notice (ARGS="--all", "--new", "--only WORDS")
	@scripts/setup.sh dev
	@$(PYTHON) -m forebay.local prepare
	@$(PYTHON) -m tests.planted.run $(ARGS)

check: ## Style, types, import rules, unused code, ceilings, docs, quick scans
	@scripts/setup.sh dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/deptry services
	scripts/scan.sh quick
	.venv/bin/vulture services loadtest --min-confidence 80 --ignore-names exc_type,exc,traceback,kind,error,trace
	$(PYTHON) -m pytest -q -p no:randomly -m "not e2e" tests/docs tests/unit/architecture

scan: ## Image, compose.yaml, manifests and locked packages against known mistakes and advisories
	@scripts/setup.sh dev
	scripts/scan.sh

docs: ## Write the reference pages, the lifecycle diagram and openapi.json from the code
	@scripts/setup.sh dev
	$(PYTHON) -m scripts.reference_pages
	$(PYTHON) -m scripts.lifecycle_diagram
	$(PYTHON) -m scripts.reliability_report

load: ## 500 callers for a minute with locust; report in loadtest/results/ (ARGS=... goes to locust)
	@scripts/setup.sh dev
	@$(PYTHON) -m forebay.local load $(ARGS)

image: ## Docker images of this checkout, forebay and forebay-load (ARGS=... goes to docker build)
	docker build $(IMAGE_ARGS) $(ARGS) --target forebay -t forebay:$(VERSION) .
	docker build $(IMAGE_ARGS) $(ARGS) --target load -t forebay-load:$(VERSION) .

lock: ## Write the lock files anew (ARGS="--upgrade" takes newer versions)
	@scripts/setup.sh dev
	$(COMPILE) $(ARGS) pyproject.toml --extra all --extra motor --group dev -o requirements/dev.txt
	$(COMPILE) $(ARGS) pyproject.toml --extra all --group local -c requirements/dev.txt -o requirements/local.txt
	$(COMPILE) $(ARGS) pyproject.toml --extra all -c requirements/dev.txt -o requirements/runtime.txt
	$(COMPILE) $(ARGS) --group load -c requirements/dev.txt -o requirements/load.txt
	printf 'hatchling\neditables\n' | $(COMPILE) $(ARGS) - -c requirements/dev.txt -o requirements/build.txt
	printf 'checkov\npip-audit\n' | $(COMPILE) $(ARGS) - -o requirements/scan.txt
	echo uv | $(COMPILE) $(ARGS) - -o requirements/uv.txt

clean: ## Remove what the commands above made, .venv too
	rm -rf .venv .run .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
