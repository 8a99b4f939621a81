# The two commands that set genlab up, and those for contributors. `make` alone lists them.
#
#   PYTHON   what a new environment is made with:  make PYTHON=python3.12 test
#   VENV     the folder of the environment:        make VENV=~/venvs/genlab test
#   ARGS     further words for pytest:             make test ARGS="tests/core -x"

CHOSEN := $(PYTHON)
PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
MINOR := 'import sys; print(sys.version_info[:2])'
RUN := outputs/quickstart_$(shell date +%Y-%m-%d_%H-%M-%S)

# An environment is up to date while its stamp names this checkout and this pyproject.toml.
KEY := $(shell { pwd; cat pyproject.toml; } | cksum | cut -d' ' -f1)
TO_USE := $(VENV)/.genlab-$(KEY)
EXTRAS := [test,lint]
TO_TEST := $(VENV)/.genlab-test-$(KEY)

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow lint format clean python

help:
	@echo "make quickstart   install, train DDPM on the embedded digits, sample and evaluate it: some minutes"
	@echo "make test         install what tests need, and run them"
	@echo "make test-slow    run the tests that train for minutes"
	@echo "make lint         ruff check, ruff format --check, mypy"
	@echo "make format       let ruff format and repair the code"
	@echo "make clean        remove builds and caches; the environment and outputs/ stay"

quickstart: $(TO_USE)
	$(BIN)/genlab train experiment=quickstart hydra.run.dir=$(RUN)
	$(BIN)/genlab sample ckpt=$(RUN) n=64
	$(BIN)/genlab eval ckpt=$(RUN) 'metric=[fid,is,nll]'
	@echo "samples: $$(ls $(RUN)/samples/*/grid.png)"

test: $(TO_TEST)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(ARGS)

test-slow: $(TO_TEST)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(ARGS)

lint: $(TO_TEST)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy genlab

format: $(TO_TEST)
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find genlab tests scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Hatchling builds in an environment of its own, fetched for it, unless it is here already: then no network is needed.
define install
	@echo "installing genlab, torch and all, into $(VENV)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@rm -f $(VENV)/.genlab-*
	$(BIN)/python -m pip install --disable-pip-version-check \
	  $$($(BIN)/python -c 'import hatchling' 2>/dev/null && echo --no-build-isolation) --editable ".$(1)"
endef

# A Python that is named must be the environment's; an environment that is there needs no other.
python:
	@test -z "$(CHOSEN)" -a -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "genlab needs Python 3.11 or newer, and $(PYTHON) is not: name one, as in make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -z "$(CHOSEN)" -o ! -x $(BIN)/python || \
	test "$$($(BIN)/python -c $(MINOR))" = "$$($(PYTHON) -c $(MINOR))" || \
	{ echo "$(VENV) holds another Python than $(PYTHON): remove it, or choose another folder, as in make VENV=.venv-new" >&2; exit 1; }

$(TO_USE): | python
	$(call install,)
	@touch $@

$(TO_TEST): | python
	$(call install,$(EXTRAS))
	@touch $(TO_USE) $@
