# `make repro` and `make test` need Python 3.11 to 3.13, git and make; they install the rest into .venv.

BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro install data results ui server test test-all test-browser lint format notebook changes new-images audit lock help

repro: $(BIN)/.installed  ## run every stage that is not up to date
	dvc repro

install: $(BIN)/.dev  ## install the locked packages into .venv, with those of the tests

data: $(BIN)/.installed  ## fetch the images again, for instance when Kaggle can be reached now
	dvc repro --force --single-item fetch

results: $(BIN)/.installed  ## keep the scores and predictions of the models here in results/, for git
	@car-or-truck record

ui: $(BIN)/.installed  ## the MLflow UI, and where it shows the best and the most overfitted models
	@car-or-truck ui

server: $(BIN)/.extras  ## the team's MLflow server, on this machine's PostgreSQL
	@python deploy/server.py

test: $(BIN)/.dev  ## the tests, in minutes
	python -m pytest

test-all: $(BIN)/.extras  ## the tests and the slow tests
	python -m pytest -m "slow or not slow"

test-browser: $(BIN)/.dev  ## the MLflow UI in a headless Chromium
	python -m pytest -n 0 -m slow tests/tracking/test_browser.py

lint: $(BIN)/.dev  ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

format: $(BIN)/.dev  ## format, and fix what ruff can fix
	ruff check --fix .
	ruff format .

notebook: $(BIN)/.extras  ## write notebooks/lesson.ipynb, for Kaggle, from notebooks/lesson.py
	jupytext --quiet --to ipynb --update notebooks/lesson.py

changes: $(BIN)/.extras  ## reproduce this commit from the DVC remote, and print what it changes since BASE
	@scripts/changes $(or $(BASE),origin/main)

new-images: $(BIN)/.extras  ## fetch the images again; if they are new, train on them and push to the DVC remote
	@scripts/new-images

audit: $(BIN)/.dev  ## look up the locked packages' known vulnerabilities
	@uv tool run --quiet pip-audit@2.10.1 --strict --disable-pip --require-hashes --format markdown \
	  -r requirements-extras.lock

lock: $(BIN)/.dev  ## lock the newest versions that fit pyproject.toml and train/versions.txt
	for lock in "requirements-extras.lock --all-extras" "requirements-dev.lock --extra dev -c requirements-extras.lock" \
	    "requirements.lock --extra build -c requirements-extras.lock"; do \
	  uv pip compile pyproject.toml -c src/car_or_truck/train/versions.txt --universal --python-version 3.11 \
	    --generate-hashes --upgrade --custom-compile-command "make lock" --quiet --output-file $$lock || exit 1; \
	done

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' $(MAKEFILE_LIST)

# The stamp is written last, so that an interrupted installation is repeated.
$(BIN)/.installed: requirements.lock pyproject.toml scripts/install
	@sh scripts/install
	@touch $@

$(BIN)/.dev: requirements-dev.lock $(BIN)/.installed
	@echo "Installing what the tests need into .venv ..." >&2
	@python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

$(BIN)/.extras: requirements-extras.lock $(BIN)/.installed
	@echo "Installing the optional packages into .venv ..." >&2
	@python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-extras.lock
	@touch $@
