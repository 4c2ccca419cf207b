# Two commands: `make demo` runs the main job, `make test` runs every test. Both set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test fuzz chaos failover rollout bench lint check docs lock sbom audit digests setup clean

help:
	@echo "make demo    draw a sample catalog and tag it end to end (installs a small environment, no torch)"
	@echo "make test    run every test (installs everything)"
	@echo "make check   lint, types, import rules, spelling, every test"
	@echo "make docs    build the documentation site into docs/_build (installs a small environment, no torch)"
	@echo "make fuzz    decode 20,000 damaged images"
	@echo "make chaos   tag 20,000 images while workers, Redis and PostgreSQL are killed; QUICK=1: 600, in some minutes"
	@echo "make failover  tag 10,000 images four times while Redis and PostgreSQL fail over, and PgBouncer restarts; REPEAT=3"
	@echo "make rollout  try, promote and roll back a version while 10,000 images are tagged (some minutes)"
	@echo "make bench   time Tagmill beside the machine's limit and other tools (about two hours); QUICK=1: other tools alone, under 10 minutes; JSON=FILE"
	@echo "make lock    choose the packages of the images anew and write their hashes into deploy/image"
	@echo "make sbom    write the bills of materials of the images into sbom-cpu.json and sbom-gpu.json (CycloneDX)"
	@echo "make audit   look the packages of the images up in PyPI's list of known vulnerabilities"
	@echo "make digests pin the images that Docker pulls by their digests; needs docker and the registry"
	@echo "make setup   install everything for development into $(VENV)"
	@echo "make clean   remove $(VENV) and what demo and docs wrote"

demo: $(VENV)/.demo
	$(BIN)/tagmill demo

# One process more than cores: many tests wait for servers.
test: $(VENV)/.setup
	$(BIN)/python -m pytest -n $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --maxprocesses 4 --dist worksteal

check: lint test

fuzz: $(VENV)/.setup
	PYTHONPATH=tests $(BIN)/python -m fuzz

chaos: $(VENV)/.setup
	PYTHONPATH=tests $(BIN)/python -m chaos $(if $(QUICK),--images 600 --kills 4)

failover: $(VENV)/.setup
	PYTHONPATH=tests $(BIN)/python -m chaos.failover $(if $(REPEAT),--repeat $(REPEAT))

rollout: $(VENV)/.setup
	PYTHONPATH=tests $(BIN)/python -m chaos.rollout

bench: $(VENV)/.bench
	PYTHONPATH=tests $(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(JSON),--json $(JSON))

lint: $(VENV)/.setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/yamllint --strict .
	$(BIN)/hadolint Dockerfile

# Everything is read again each time: a warning about a document that has not changed must not be forgotten.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning -c docs . docs/_build
	@echo "built docs/_build/index.html"

# What the images install. The images are for linux/amd64 and Python 3.12; --only-binary: nothing is built from source.
IN_IMAGES := cloud heif parquet postgres ops otel
LOCK := $(BIN)/uv pip compile --quiet --generate-hashes --no-annotate --custom-compile-command "make lock" \
	--python-version 3.12 --python-platform x86_64-manylinux_2_28 --only-binary :all: --constraints constraints.txt

lock: $(VENV)/.images
	$(LOCK) pyproject.toml $(foreach extra,cpu $(IN_IMAGES),--extra $(extra)) --output-file deploy/image/requirements-cpu.txt
	$(LOCK) pyproject.toml $(foreach extra,gpu gpu-decode $(IN_IMAGES),--extra $(extra)) --output-file deploy/image/requirements-gpu.txt
	echo 'hatchling>=1.27' | $(LOCK) - --output-file deploy/image/requirements-build.txt

sbom: $(VENV)/.images
	for kind in cpu gpu; do $(BIN)/cyclonedx-py requirements deploy/image/requirements-$$kind.txt --pyproject pyproject.toml \
		--output-reproducible --output-file sbom-$$kind.json || exit; done

audit: $(VENV)/.images
	$(BIN)/pip-audit --disable-pip --require-hashes --requirement deploy/image/requirements-cpu.txt
	$(BIN)/pip-audit --disable-pip --require-hashes --requirement deploy/image/requirements-gpu.txt

digests:
	$(PYTHON) deploy/image/pin.py

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
	$(PIP) -e '.[cpu,openvino,train,pretrained,pictures,picture-text,vectors,postgres,ops,dev,examples,images]'
	@touch $@ $(VENV)/.demo $(VENV)/.images

$(VENV)/.docs: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing what builds the documentation site into $(VENV)"
	$(PIP) -e '.[docs]'
	@touch $@

$(VENV)/.images: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[images]'
	@touch $@

$(VENV)/.bench: $(VENV)/.setup
	@echo "installing what Tagmill is compared with into $(VENV)"
	$(PIP) -e '.[cpu,train,postgres,ops,dev,bench]'
	@touch $@
