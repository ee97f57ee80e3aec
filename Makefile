# Everything from nothing: Python 3.11+, make and a package index are all that a machine needs.
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .tools/bin/uv
RUN := $(UV) run --frozen --all-packages
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv
# Tests and the demo start hundreds of processes: where Python may not write bytecode, each would compile all again.
export UV_COMPILE_BYTECODE := 1
# Meltano makes its plugins' environments with the same uv.
export PATH := $(CURDIR)/.tools/bin:$(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format bench chaos lock build clean

help: ## Show the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

$(UV):
	@echo "Installing uv $(UV_VERSION) into .tools ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv .tools
	@.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.installed: $(UV) uv.lock pyproject.toml */pyproject.toml tests/simulator/pyproject.toml
	@echo "Installing the workspace from uv.lock ..."
	@$(UV) sync --frozen --all-packages --python $(PYTHON)
	@$(RUN) python -m compileall -q */*_*/
	@touch $@

install: .venv/.installed ## Install the workspace into .venv

lint: install ## ruff and mypy --strict
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

format: install ## Let ruff mend what it can
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

.meltano/.installed: .venv/.installed meltano.yml constraints.txt
	@echo "Installing the Meltano plugins ..."
	@$(RUN) meltano --log-level=warning install --clean
	@touch $@

demo: .meltano/.installed ## SendGrid on localhost → receiver → Meltano → output/warehouse.duckdb, and a funnel from it
	@$(RUN) python tests/demo.py

test: .meltano/.installed ## Every test of every part
	$(RUN) pytest -n 2 --dist loadgroup

# CHAOS='--seconds 600 --seed 7 --log nats' gives another run; --help tells what there is.
CHAOS ?= --log all --engine all --seconds 120
chaos: .meltano/.installed ## Kill, fill, cut and restart everything under load, then count; and a million hostile inputs
	PYTHONPATH=tests $(RUN) python -m chaos $(CHAOS)
	PYTHONPATH=tests $(RUN) python -m chaos.fuzz --inputs 1000000

bench: .meltano/.installed ## Every benchmark against its peers (about an hour); writes benchmarks/README.md
	$(RUN) python benchmarks/bench_targets.py
	$(RUN) python benchmarks/bench_receiver.py
	$(RUN) python benchmarks/bench_tap_events.py
	$(RUN) python benchmarks/bench_tap_contacts.py
	$(RUN) python benchmarks/bench_log.py
	$(RUN) python benchmarks/bench_pipeline.py
	$(RUN) python benchmarks/bench_follow.py
	$(RUN) python benchmarks/report.py

lock: $(UV) ## Take newer releases of the dependencies: uv.lock, and constraints.txt for Meltano
	$(UV) lock
	@$(UV) export --frozen --quiet --no-hashes --no-emit-workspace --no-annotate --no-header --no-dev \
		--all-extras --package tap-sendgrid --package target-segment-warehouse --output-file constraints.txt > /dev/null

build: install ## Wheels and source archives of both packages, in dist/
	$(UV) build --package tap-sendgrid --out-dir dist
	$(UV) build --package target-segment-warehouse --out-dir dist

clean: ## Remove what the other commands made
	rm -rf .venv .tools .meltano output .pytest_cache .mypy_cache .ruff_cache
