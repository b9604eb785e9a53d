# `make repro` and `make test` need Python 3.11 to 3.13, git and make; they install the rest into .venv.

BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro data test test-all lint format lock help

repro: $(BIN)/.installed  ## run the pipeline: whatever is not up to date
	dvc repro

data: $(BIN)/.installed  ## fetch the images again (leaves the stand-in as soon as the real ones can be reached)
	dvc repro --force --single-item fetch

test: $(BIN)/.installed  ## the tests, in minutes
	python -m pytest

test-all: $(BIN)/.installed  ## the tests, with the slow ones
	python -m pytest -m "slow or not slow"

lint: $(BIN)/.installed  ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

format: $(BIN)/.installed  ## let ruff mend what it can
	ruff check --fix .
	ruff format .

lock: $(BIN)/.installed  ## choose the newest versions that fit pyproject.toml
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --upgrade \
	  --custom-compile-command "make lock" --quiet --output-file requirements.lock

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' $(MAKEFILE_LIST)

# The stamp is written last, so an installation that was broken off is done again.
$(BIN)/.installed: requirements.lock pyproject.toml scripts/install
	@sh scripts/install
	@touch $@
