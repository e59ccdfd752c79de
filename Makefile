# make demo | test | lint: each makes .venv from python3 and the package registry alone, or reuses it.
# make demo TORCH=cpu: with PyTorch's CPU build, which is a tenth of the size; once, when .venv is made.
PYTHON ?= python3
TORCH ?= default
INDEX := $(if $(filter cpu,$(TORCH)),--extra-index-url https://download.pytorch.org/whl/cpu)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint clean

demo: $(READY)
	$(BIN)/ladseg demo

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One stamp: installed again when what is to be installed changes.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(INDEX) --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV)
