# Two commands: `make demo` runs the main job, `make test` runs the tests. Each makes its environment in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint train clean

demo: .venv/core
	$(BIN)/python tools/demo.py

test: .venv/dev lint
	$(BIN)/python -m pytest -n auto

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Train the shipped models again; see models/README.md.
train: .venv/dev
	$(BIN)/python -m models.digits_cnn.train
	$(BIN)/python -m models.fraud_lstm.train

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip

.venv/core: .venv/bin/python pyproject.toml
	$(BIN)/pip install --quiet --editable .
	touch $@

# PyTorch first and by version, so that nothing else chooses another build of it.
.venv/dev: .venv/bin/python pyproject.toml
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ .venv/core

clean:
	rm -rf .venv build dist
