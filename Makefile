# The commands of CONTRIBUTING.md. PYTHON=python3.12 make setup takes another Python.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup test lint format docs package ci

help:
	@grep -E '^[a-z]+:.*#' $(MAKEFILE_LIST) | sed 's/:.*#/\t/'

setup: # .venv with xpdl and the tools
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c .ci/constraints.txt -e ".[dev,docs]"

test: # the suite, on one CPU backend of each library that is installed
	$(BIN)/python -m pytest

lint: # ruff, formatting, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: # format, and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: # the site, into site/
	$(BIN)/python -m sphinx -n -W --keep-going -q docs site

package: # sdist and wheel, the wheel in an empty environment
	scripts/check_package.sh $(PYTHON)

ci: # all that CI does, in a clone of the last commit
	.ci/run
