# make demo   install, then the whole job on built-in data: teachers -> student -> scores -> table (10 minutes on 2 cores)
# make test   install, then lint and all tests, offline (11 minutes on 2 cores, the install included)
# make bench  what distillation costs, as ratios, into benchmarks/results (20 minutes on 2 cores; QUICK=1 is shorter)

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
SPEAKERS := s01 s02 s03 s04

.PHONY: demo fsdd phoenix-synthetic docs install test test-fast lint format bench clean

install: $(INSTALLED)

# pip 23 (bundled with Python 3.11) calls this set unsolvable; pip 26 solves it.
$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a few minutes)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=26"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	@touch $@

# Every step reuses its run folder where it is finished, and goes on where it was interrupted.
demo: $(INSTALLED)
	@echo "== speech: a generalist, a teacher for every speaker, their soft targets, the student with and without them"
	$(LAUNCH) recipes/train.py --config $(DEMO)/speech_generalist.yaml
	@set -e; for speaker in $(SPEAKERS); do \
	  echo "$(LAUNCH) recipes/train.py --config $(DEMO)/speech_teacher.yaml --train_speakers $$speaker"; \
	  $(LAUNCH) recipes/train.py --config $(DEMO)/speech_teacher.yaml \
	    --train_speakers $$speaker --output_dir $(RUNS)/speech-teacher-$$speaker; done
	$(LAUNCH) recipes/train.py --config $(DEMO)/speech_baseline.yaml
	$(LAUNCH) recipes/cache_teachers.py --config $(DEMO)/speech_student.yaml
	$(LAUNCH) recipes/distill.py --config $(DEMO)/speech_student.yaml
	@echo "== sign: a bigger teacher, the student with and without it"
	$(LAUNCH) recipes/train.py --config $(DEMO)/sign_teacher.yaml
	$(LAUNCH) recipes/train.py --config $(DEMO)/sign_baseline.yaml
	$(LAUNCH) recipes/distill.py --config $(DEMO)/sign_student.yaml
	$(LAUNCH) recipes/score.py --run $(RUNS)/sign-student --decoder beam
	@echo "== the table, made from the run folders"
	@$(BIN)/python recipes/compare.py \
	  $(RUNS)/speech-generalist $(RUNS)/speech-baseline $(RUNS)/speech-student \
	  $(RUNS)/sign-teacher $(RUNS)/sign-baseline $(RUNS)/sign-student --overview --output $(RUNS)/table.md
	@echo "== the reports, one a corpus: rates of different corpora do not stand in one table"
	@set -e; for runs in "speech generalist" "sign teacher"; do set -- $$runs; \
	  $(BIN)/python recipes/report.py $(RUNS)/$$1-student $(RUNS)/$$1-baseline $(RUNS)/$$1-$$2 \
	    --baseline $$1-baseline --output $(RUNS)/$$1-report.html; done
	@echo "the distilled students, each with a model card, curves and results:"
	@echo "  $(RUNS)/speech-student"
	@echo "  $(RUNS)/sign-student"
	@echo "the reports, to be opened in a browser: tables, curves, errors, utterances to see and hear:"
	@echo "  $(RUNS)/speech-report.html"
	@echo "  $(RUNS)/sign-report.html"

# Real speech: three speakers' teachers, the fourth speaker held out (see configs/fsdd).
fsdd: $(INSTALLED)
	$(LAUNCH) recipes/train.py --config configs/fsdd/generalist.yaml
	@set -e; for speaker in jackson nicolas theo; do \
	  $(LAUNCH) recipes/train.py --config configs/fsdd/teacher.yaml \
	    --train_speakers $$speaker --output_dir runs/fsdd/teacher-$$speaker; done
	$(LAUNCH) recipes/train.py --config configs/fsdd/baseline.yaml
	$(LAUNCH) recipes/cache_teachers.py --config configs/fsdd/student.yaml
	$(LAUNCH) recipes/distill.py --config configs/fsdd/student.yaml
	$(LAUNCH) recipes/score.py --run runs/fsdd/student --decoder beam
	@$(BIN)/python recipes/compare.py runs/fsdd/generalist runs/fsdd/baseline runs/fsdd/student

# The table of configs/phoenix_synthetic over three seeds (an hour on two cores); needs PHOENIX's csv files, no videos.
SYNTHETIC := configs/phoenix_synthetic
SEEDED := runs/phoenix-synthetic
phoenix-synthetic: $(INSTALLED)
	@set -e; for seed in 1 2 3; do \
	  for name in baseline baseline_twice bigger_teacher proven_head; do \
	    $(LAUNCH) recipes/train.py --config $(SYNTHETIC)/$$name.yaml --seed $$seed \
	      --output_dir $(SEEDED)/$$(echo $$name | tr _ -)-seed$$seed; done; \
	  for pair in self_distillation:baseline from_best:proven-head; do \
	    name=$${pair%%:*}; teacher=$(SEEDED)/$${pair##*:}-seed$$seed; \
	    $(LAUNCH) recipes/distill.py --config $(SYNTHETIC)/$$name.yaml --seed $$seed --teachers $$teacher \
	      --vocabulary $$teacher --output_dir $(SEEDED)/$$(echo $$name | tr _ -)-seed$$seed; done; \
	  student=$(SEEDED)/self-distillation-seed$$seed; \
	  $(LAUNCH) recipes/estimate_lm.py --run $$student --order 3 --output $(SEEDED)/glosses.arpa; \
	  $(LAUNCH) recipes/score.py --run $$student --lm $(SEEDED)/glosses.arpa --tune true; \
	  $(LAUNCH) recipes/score.py --run $$student --decoder beam; done
	@$(BIN)/python recipes/compare.py $(SEEDED)/*-seed? --seeds

lint: $(INSTALLED)
	$(BIN)/ruff check kd_asr_slr recipes tests benchmarks
	$(BIN)/ruff format --check kd_asr_slr recipes tests benchmarks
	$(BIN)/mypy

# The pages of docs/ and the reference from the docstrings, into build/docs; a warning is an error.
docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/sphinx-build -b html -q -W --keep-going -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

format: $(INSTALLED)
	$(BIN)/ruff check --fix kd_asr_slr recipes tests benchmarks
	$(BIN)/ruff format kd_asr_slr recipes tests benchmarks

test-fast: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2 --dist loadfile

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

# Each benchmark shows its bars and writes benchmarks/results/NAME.json.
bench: $(INSTALLED)
	$(BIN)/python benchmarks/run.py $(if $(QUICK),--quick)

clean:
	rm -rf runs build dist benchmarks/results *.egg-info .mypy_cache .pytest_cache .ruff_cache
