PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := $(VENV)/.peers

.PHONY: demo test bench report-check lint docs clean
.DELETE_ON_ERROR:

## Hear it: stems mixed, turned down and pulled apart in latent space (writes lincae-demo/)
demo: $(STAMP)
	$(BIN)/lincae demo -o lincae-demo

## Run every test
test: $(STAMP) $(PEERS)
	$(BIN)/python -m pytest

## Measure speed and memory (BENCHMARKS.md says what each figure means)
bench: $(STAMP)
	$(BIN)/python bench/run.py --lincae $(BIN)/lincae

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

$(STAMP): pyproject.toml formats/lincae_formats/_version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "lincae needs Python 3.11 or newer; try: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

# Other people's networks, as oracles: without their pins, which would change numpy and torch. Their tests skip without
# them; where LINCAE_REQUIRE_PEERS is set, as in CI, they fail.
$(PEERS): $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps linear-cae==0.1.4 music2latent==0.1.8 \
	  && touch $@ || { echo "linear-cae and music2latent could not be had: what is tested against them is left out"; \
	  test -z "$$LINCAE_REQUIRE_PEERS"; }
