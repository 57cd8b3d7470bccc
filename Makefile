# Every target makes its own .venv first: python3 with venv is all that must be there.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
READY := $(VENV)/.ready
export TZ := UTC
export UV_LINK_MODE ?= copy

.PHONY: help demo test lint bench train sample system-deps kafka-up kafka-down \
	flink-up flink-down flink-status test-flink endure-flink bench-flink lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): requirements.txt setup.py infra/make/uv.txt
	@echo "setup: creating $(VENV) (about 3 GB with torch's CUDA libraries; once)"
	@start=$$(date +%s); \
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 13) else "setup: expected Python 3.11 or 3.12, got " + sys.version.split()[0] + "; name one with make PYTHON=python3.11")'; \
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { echo "setup: expected python3 with venv; apt-get install python3-venv"; exit 1; }; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r infra/make/uv.txt; \
	if [ -n "$${TORCH_INDEX:-}" ]; then \
	  $(BIN)/uv pip install --python $(BIN)/python --index-url "$$TORCH_INDEX" 'torch==2.13.*'; \
	  $(BIN)/uv pip install --python $(BIN)/python --no-deps -r <($(BIN)/python infra/make/without_cuda.py requirements.txt); \
	else \
	  $(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements.txt; \
	fi; \
	$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .; \
	touch $@; echo "setup: done in $$(( $$(date +%s) - start )) s"

demo: $(READY) ## run the whole job on sample events and show profiles (DATA=../shared/data: real content)
	@$(BIN)/portrait demo $(if $(DATA),--data $(DATA))

test: $(READY) ## lint, then every test that this machine can run
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python infra/make/system_deps.py --install-or-say
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

lint: $(READY) ## ruff and mypy strict
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: $(READY) ## measure speed, freshness and memory (JSON in var/bench.json)
	@$(BIN)/python -m tests.bench.run --out var/bench.json $(BENCH_ARGS)

train: $(READY) ## train the shipped encoders again (DATA=../shared/data)
	@$(BIN)/portrait train --data $(or $(DATA),../shared/data)

sample: $(READY) ## make the sample events again (needs espeak-ng)
	@$(BIN)/python -m tests.sample.generate

system-deps: $(READY) ## install what the integration tests need from Debian (Redis, Java, Maven, espeak-ng)
	@$(BIN)/python infra/make/system_deps.py --install

kafka-up: $(READY) ## start a real Kafka on loopback (one node, KRaft)
	@$(BIN)/python infra/kafka/kafka.py up

kafka-down: $(READY) ## stop it
	@$(BIN)/python infra/kafka/kafka.py down

flink-up: $(READY) ## start Flink, Beam's job server and Python workers on loopback
	@$(BIN)/python infra/flink/flink.py up

flink-down: $(READY) ## stop them
	@$(BIN)/python infra/flink/flink.py down

flink-status: $(READY) ## say what of it runs
	@$(BIN)/python infra/flink/flink.py status

test-flink: $(READY) ## faults and refusals on a real Flink cluster, with the ledger (about 45 minutes)
	@$(BIN)/python -m tests.cluster.faults

endure-flink: $(READY) ## 20 starts, half an hour of checkpoints, added partitions (about 45 minutes)
	@$(BIN)/python -m tests.cluster.endurance

bench-flink: $(READY) ## Flink beside local rounds: freshness and throughput
	@$(BIN)/python -m tests.bench.bench_flink

lock: $(READY) ## resolve requirements.txt and uv.txt anew
	@$(BIN)/uv pip compile setup.py --extra analysis --extra demo --extra hf --extra redis --extra serve --extra dev --generate-hashes --python-version 3.11 --no-header --output-file requirements.txt
	@echo "uv==$(UV_VERSION)" | $(BIN)/uv pip compile - --generate-hashes --no-header --output-file infra/make/uv.txt

clean: ## remove what the targets made (.venv, caches, var)
	rm -rf $(VENV) build dist *.egg-info var .cache .pytest_cache .hypothesis .mypy_cache .ruff_cache
