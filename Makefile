# Two commands do everything: `make demo` and `make test`. They need Python 3.11+ and a package index.
PYTHON ?= python3
BIN := .venv/bin
DATA ?=
ARGS ?=

help:  ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/runtime  ## start everything here, send simulated traffic, show what is decided, stop everything
	$(BIN)/doorman demo $(ARGS)

test: lint  ## check style and types, run the tests (with Java 17 and Maven also those on Apache Kafka)
	$(BIN)/pytest $(ARGS)

long: .venv/dev  ## run the long tests: a wrong verdict's way back, a restart in a campaign, habits, erasure
	$(BIN)/pytest -m long $(ARGS)

lint: .venv/dev  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev  ## bring the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/runtime  ## measure scoring, the pipeline and its latency (needs Java 17 and Maven)
	$(BIN)/doorman bench score
	$(BIN)/doorman bench pipeline
	$(BIN)/doorman bench latency

model: .venv/dev  ## train the model again: make model DATA=folder-of-public-sets
	$(BIN)/python -m models.train $(if $(DATA),--data $(DATA)) --out models/shipped

encoder: .venv/encoder  ## fine-tune the second look, in half an hour: make encoder DATA=folder-of-public-sets; then make model
	JAX_PLATFORMS=cpu $(BIN)/python -m models.encoder $(if $(DATA),--data $(DATA)) --out models/shipped

constraints: .venv/dev  ## pin the newest allowed versions, with their hashes
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile $(PIN) --extra build --extra postgres -o constraints.txt pyproject.toml
	$(BIN)/uv pip compile $(PIN) --all-extras -c constraints.txt -o constraints-dev.txt pyproject.toml

PIN := --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-header --no-emit-index-url --no-annotate

.venv/runtime: constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

.venv/dev: .venv/runtime constraints-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r constraints-dev.txt
	touch $@

.venv/encoder: .venv/dev constraints-encoder.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r constraints-encoder.txt
	touch $@

.PHONY: help demo test long lint format bench model encoder constraints
.DEFAULT_GOAL := help
