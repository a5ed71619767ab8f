# Everything a newcomer types. `make env` makes .venv; everything else builds on it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo-run
STAMP := $(VENV)/.installed

.PHONY: help env demo test test-slow test-slurm chaos lint types imports check bench tables clean
help:  ## what there is to type
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

env: $(STAMP)  ## make .venv with everything pinned (torch first: on a machine with a GPU the same pin is the CUDA build)
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

demo: env  ## the whole line on embedded crystals and frameworks, ending in $(DEMO)/report.html (minutes on 2 cores)
	$(BIN)/matgen run symmcd_demo --out $(DEMO)
	$(BIN)/matgen run mofdiff_demo --out $(DEMO)/mofs
	$(BIN)/matgen report $(DEMO)
	@echo "open $(DEMO)/report.html (crystals) and $(DEMO)/mofs/report.html (frameworks)"

test: env  ## the default test suite
	$(BIN)/pytest -n 2

test-slow: env  ## kills, browsers, multi-process training
	$(BIN)/pytest -m slow -n 2 --ignore=tests/integration
	$(BIN)/pytest -m slow tests/integration

test-slurm: env  ## jobs on a real Slurm of several nodes (root, and scripts/install_slurm.sh); elsewhere "not run"
	$(BIN)/pytest -m slurm -rs tests/integration

chaos: env  ## 10,000 uneven items on four nodes of a real Slurm while everything is being killed
	$(BIN)/python tests/integration/chaos.py --items 10000

lint: env
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
types: env
	$(BIN)/mypy
imports: env
	$(BIN)/lint-imports
check: lint types imports  ## lint, types and import rules

bench: env  ## measured figures, printed; nothing is asserted about time
	$(BIN)/pytest -m benchmark -s tests/benchmarks

tables: env  ## remake the frozen symmetry tables and compare them with the shipped ones
	$(BIN)/python scripts/make_symmetry_tables.py --check

clean:  ## remove caches and demo output (not .venv, not runs/)
	rm -rf $(DEMO) .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info
