# Each target does the set-up it needs in .venv; later calls reuse it.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Threads that spin while they wait for each other make a busy machine many times slower.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test check format bench sweep verify method-pages demo-assets clean

demo: $(VENV)/.core
	rm -rf demo-run
	$(VENV)/bin/whycam demo --out demo-run

test: check $(VENV)/.system
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist worksteal

check: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(VENV)/.bench
	$(RUN) -m benchmarks.peers --out docs/benchmarks.md
	$(RUN) -m benchmarks.peers_methods --out docs/benchmarks.md
	$(RUN) -m benchmarks.peers_evaluation --out docs/benchmarks.md
	$(RUN) -m benchmarks.select_bench --out docs/benchmarks.md

sweep: $(VENV)/.dev
	$(RUN) -m benchmarks.timm_sweep --out docs/timm-layers.md
	$(RUN) -m benchmarks.library_sweep --out docs/library-layers.md
	$(RUN) -m benchmarks.suffix_sweep --out docs/suffix.md

verify: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(RUN) -m benchmarks.verify --beds testbeds --out docs/verification.md
	$(RUN) scripts/make_method_pages.py --text-only

method-pages: $(VENV)/.dev
	$(RUN) scripts/make_method_pages.py

demo-assets: $(VENV)/.dev
	$(RUN) scripts/make_demo.py

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("whycam needs Python 3.11 or newer, found " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# torch and torchvision are resolved together: a torch of another build would not fit torchvision's.
$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.core

$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[dev,bench]'
	touch $@ $(VENV)/.dev $(VENV)/.core

# What the tests need and pip does not have: a browser, and a reader of PDF.
$(VENV)/.system: scripts/system_packages.sh | $(VENV)/bin/python
	scripts/system_packages.sh
	touch $@

clean:
	rm -rf $(VENV) demo-run testbeds .mypy_cache .ruff_cache .hypothesis
