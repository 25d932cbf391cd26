PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := $(VENV)/.peers
PARALLEL := -n auto --dist loadfile # one process a core, a file's tests in one of them

.PHONY: demo test test-all test-slow paper judges bench report-check lint docs clean
.DELETE_ON_ERROR:

## Hear it: stems mixed, turned down and pulled apart in latent space (writes lincae-demo/)
demo: $(STAMP)
	$(BIN)/lincae demo -o lincae-demo

## Run the tests that take seconds
test: $(STAMP) $(PEERS)
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

## Run every test
test-all: $(STAMP) $(PEERS)
	$(BIN)/python -m pytest $(PARALLEL)

## Run the tests that `make test` leaves out
test-slow: $(STAMP) $(PEERS)
	$(BIN)/python -m pytest -m slow $(PARALLEL)

## Measure speed, memory and linearity (BENCHMARKS.md says what each figure means)
bench: $(STAMP)
	$(BIN)/python bench/cli_speed.py
	$(BIN)/python bench/decode_speed.py
	$(BIN)/python bench/memory.py

## What the judges of sound need (ViSQOL, Zimtohrli, notes, STOI)
judges: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[judges]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps basic-pitch

STEMS ?= lincae_core/demo/stems
PAIR ?= runs/frame-64/frame-64.safetensors runs/frame-64-baseline/frame-64-baseline.safetensors
MUSIC ?= # a folder of music on which the KLT is fitted; without it there is no row of the KLT

## The paper's tables for a trained pair (docs/method.md), the default model, Opus and the KLT: make paper MUSIC=~/Music
paper: $(STAMP)
	mkdir -p build/paper
	$(BIN)/lincae eval --data $(STEMS) --seconds 10 $(PAIR:%=--model %) --model frame --model opus-12 $(MUSIC:%=--model klt:%) \
	  -o build/paper --markdown build/paper/tables.md --json build/paper/figures.json --force

## A page of `lincae eval` in headless Chromium: players load, pictures and tables are there, the console is quiet
report-check: $(STAMP)
	mkdir -p build/report-check
	$(BIN)/lincae eval --data lincae_core/demo/stems --seconds 5 --model frame --model opus --model identity \
	  --out build/report-check --html build/report-check/report.html --force
	$(BIN)/python bench/report_check.py build/report-check/report.html --screenshot build/report-check/report.png

## Style and types
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## Write docs/cli.md from the live help
docs: $(STAMP)
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) lincae-demo runs build dist

$(STAMP): pyproject.toml formats/lincae_formats/__init__.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "lincae needs Python 3.11 or newer; try: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@$(BIN)/python -m compileall -q lincae_cli lincae_core formats/lincae_formats  # a first command is as fast as the next
	@touch $@

# Other people's networks, as oracles: without their pins, which would change numpy and torch. Their tests skip without
# them; where LINCAE_REQUIRE_PEERS is set, as in CI, they fail.
$(PEERS): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps linear-cae==0.1.4 music2latent==0.1.8 \
	  && touch $@ || { echo "linear-cae and music2latent could not be had: what is tested against them is left out"; \
	  test -z "$$LINCAE_REQUIRE_PEERS"; }
