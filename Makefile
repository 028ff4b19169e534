# What a newcomer types: `make repro`, then `make test`. Every target builds .venv itself, from the pins in
# constraints.txt, and rebuilds it when these or pyproject.toml change.
#
#   make repro              the whole pipeline on the demo world, or on what params.yaml says
#   make repro FAISS=gpu    the same on a GPU machine
#   make help               the other targets

SHELL := /bin/bash
PYTHON ?= python3
FAISS ?= cpu
INSTALLED := .venv/.installed-$(FAISS)

# DVC runs `python -m stages.x`: that python must be the one of .venv.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help repro test lint soak format

help:  ## these lines
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(INSTALLED): pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q -c constraints.txt -e ".[$(FAISS),dev]"
	rm -f .venv/.installed-* && touch $@

repro: $(INSTALLED)  ## run every stage whose inputs, params or code have changed
	dvc repro

test: $(INSTALLED)  ## the tests, two processes, one thread each; the longest files first
	OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/pipeline_run tests

soak: $(INSTALLED)  ## the long checks: real data, many seeds
	OMP_NUM_THREADS=2 python -m pytest -m soak

lint: $(INSTALLED)  ## style, formatting, types
	ruff check .
	ruff format --check .
	mypy

format: $(INSTALLED)  ## put style and formatting right where a tool can
	ruff check --fix .
	ruff format .
