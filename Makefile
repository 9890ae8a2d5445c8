# make demo   trains, tests and draws a small network on real digits
# make test   runs the default suite
# make docs   builds the documentation as pages in build/docs
# make matrix runs a stock config of every family with this backbone, and writes the table of docs/en/downstream.md
# make demo and make test make .venv first if it is missing. PYTHON=python3.12 names the interpreter, VENV=DIR another place.
# STACK=classic takes the original OpenMMLab releases instead, in .venv-classic, with PYTHON=python3.10 or 3.11.

PYTHON ?= python3
STACK ?= default
ifeq ($(STACK),default)
VENV ?= .venv
LOCK := requirements/lock.txt
USABLE := (3, 10) <= sys.version_info
RANGE := is older than Python 3.10
EXAMPLE := make demo PYTHON=python3.11
SIZE := 6.8 GB
CHECK_OWN = $(BIN)/python -m pip check
else ifeq ($(STACK),classic)
VENV ?= .venv-classic
LOCK := requirements/classic.txt
USABLE := (3, 10) <= sys.version_info < (3, 12)
RANGE := is not Python 3.10 or 3.11, which torch 2.1.2 needs,
EXAMPLE := make test STACK=classic PYTHON=python3.10
SIZE := 5.7 GB
# The package asks for the maintained distributions, under other names: pip does not know that these do, too.
CHECK_OWN =
else
$(error STACK=$(STACK) is unknown: leave it out, or say STACK=classic)
endif
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_DIR ?= work_dirs/demo
DEMO_CONFIG := configs/classification/qsd-tiny_1xb32_digits.py
CHECKPOINT = $$(cat $(DEMO_DIR)/last_checkpoint)

.DEFAULT_GOAL := help
# An interpreter that was asked for by name has to be the one of an environment that is there already.
ifneq ($(filter line environment,$(origin PYTHON)),)
ifneq ($(wildcard $(BIN)/python),)
VERSION_OF = $(shell $(1) -c 'import sys; print("Python %d.%d" % sys.version_info[:2])')
ifneq ($(call VERSION_OF,$(PYTHON)),$(call VERSION_OF,$(BIN)/python))
$(error $(VENV) holds $(call VERSION_OF,$(BIN)/python), not PYTHON=$(PYTHON): run make clean, or name another place, as in VENV=.venv-other)
endif
endif
endif

.PHONY: help venv demo test matrix docs lint clean

help:
	@sed -n '/^#/!q; s/^# //p' Makefile

venv: $(STAMP)

$(STAMP): $(LOCK) setup.py
	@$(PYTHON) -c 'import sys; sys.exit(not $(USABLE))' || \
	    { echo "error: PYTHON=$(PYTHON) $(RANGE) or cannot be run: name another, as in $(EXAMPLE)" >&2; exit 2; }
	@echo "Installing into $(VENV) (once; a few minutes, $(SIZE))"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(LOCK)
	@# Both OpenCV packages are required by others and share their files: the headless one, which needs no
	@# graphics libraries of the system, has to be the last.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall \
	    $$(grep '^opencv-python-headless==' $(LOCK))
	$(BIN)/python -m pip check
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(CHECK_OWN)
	@touch $(STAMP)

demo: $(STAMP)
	@echo "Training a 4-bit spike-driven transformer on 1,442 handwritten digits; about two minutes on two cores."
	@echo "Everything goes to $(DEMO_DIR); what an earlier demo left there is replaced."
	@$(BIN)/python tools/train.py $(DEMO_CONFIG) --work-dir $(DEMO_DIR) --overwrite
	@echo "Testing it on 355 digits that it has not seen."
	@$(BIN)/python tools/test.py $(DEMO_CONFIG) $(CHECKPOINT) --work-dir $(DEMO_DIR) --json $(DEMO_DIR)/metrics.json
	@$(BIN)/python -c 'import json; m = json.load(open("$(DEMO_DIR)/metrics.json"))["metrics"]; print("\nTop-1 on held-out digits: %.1f %%" % m["accuracy/top1"])'
	@echo "  checkpoint   $(CHECKPOINT)"
	@echo "  metrics      $(DEMO_DIR)/metrics.json"
	@echo "  page         $(DEMO_DIR)/report.html (curves, mistakes, firing rates, energy: open it in a browser)"
	@echo "Try next:"
	@echo "  source $(BIN)/activate"
	@echo "  python tools/train.py $(DEMO_CONFIG) --work-dir work_dirs/binary --cfg-options model.backbone.max_spike_count=1"
	@echo "  python tools/train.py $(DEMO_CONFIG) --work-dir work_dirs/two-bit --cfg-options model.backbone.weight_bits=2"
	@echo "  README.md: your own images, the presets, published weights"

# Every test computes on one thread: two processes use two cores.
test: $(STAMP)
	@$(BIN)/python -m pytest -n 2 --dist worksteal

matrix: $(STAMP)
	@QSDT_MATRIX=write $(BIN)/python -m pytest -m slow tests/downstream/test_matrix.py

# In a small environment of its own: nothing of the package is imported, so none of its libraries is needed.
DOCS_ENV := build/docs_env
docs: $(DOCS_ENV)/.installed
	@NO_MKDOCS_2_WARNING=1 $(DOCS_ENV)/bin/mkdocs build --strict --quiet
	@echo "Open build/docs/index.html"

$(DOCS_ENV)/.installed: requirements/docs.txt
	$(PYTHON) -m venv --clear $(DOCS_ENV)
	$(DOCS_ENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/docs.txt
	@touch $@

lint: $(STAMP)
	@$(BIN)/ruff check .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
