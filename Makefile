# make demo   install, then the whole job on built-in data: teachers -> student -> scores -> table (10 minutes on 2 cores)
# make test   install, then lint and all tests, offline (8 minutes on 2 cores)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := runs/demo
INSTALLED := $(VENV)/.installed

# Two small processes share two cores better with one thread each; nothing here may ask the network.
export OMP_NUM_THREADS ?= 2
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
export PYTHONWARNINGS ?= ignore

LAUNCH := $(BIN)/accelerate launch --quiet --config_file accelerate_config.yaml
DEMO := configs/demo
SPEAKERS := S01 S02 S03 S04

.PHONY: demo install test test-fast lint format clean

install: $(INSTALLED)

# pip 23 (bundled with Python 3.11) calls this set unsolvable; pip 26 solves it.
$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a few minutes)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=26"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	@touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check kd_asr_slr recipes tests
	$(BIN)/ruff format --check kd_asr_slr recipes tests

format: $(INSTALLED)
	$(BIN)/ruff check --fix kd_asr_slr recipes tests
	$(BIN)/ruff format kd_asr_slr recipes tests

test-fast: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2 --dist loadfile

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

clean:
	rm -rf runs build dist *.egg-info .pytest_cache .ruff_cache
