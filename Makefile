# Two commands are all a newcomer needs: `make demo` and `make test`. Both set up .venv first, once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test check validate bench clean

help:
	@echo "make demo      set up, then Geant4 showers -> trained model -> generated showers -> report (demo-run/)"
	@echo "make test      set up, then run the whole test suite"
	@echo "make check     lint, types, import contract"
	@echo "make validate  our physics tables against Geant4's official ones (needs those, takes an hour)"
	@echo "make bench     benchmarks"

setup: $(STAMP)

# torch is pinned in constraints.txt because the newest build would pull gigabytes of GPU packages.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "caloforge needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[simulation,jets,onnx,distributed,fast,dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/caloforge demo --output demo-run --overwrite

test: $(STAMP)
	# One thread a worker: two workers of two threads each on two cores wait for each other.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

validate: $(STAMP)
	$(BIN)/python validation/builtin_tables.py

bench: $(STAMP)
	$(BIN)/python benchmarks/simulate.py
	$(BIN)/python benchmarks/evaluate.py --quick
	$(BIN)/python benchmarks/evaluate.py --observables

clean:
	rm -rf $(VENV) demo-run .pytest_cache .mypy_cache .ruff_cache .hypothesis
