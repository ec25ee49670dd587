# Everything a person or a CI machine does here. `make` alone lists it.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
OUT    := shards/out/demo
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-full demo test test-all test-vllm test-extras bench bench-peers lint fmt type check \
	golden demo-media sample clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.full: $(VENV)/.dev
	$(PIP) install -c constraints.txt -e '.[dev,full]'
	@touch $@

setup: $(VENV)/.core  ## make .venv with the core: no torch, under 1 GB
setup-dev: $(VENV)/.dev  ## ... and what the tests need
setup-full: $(VENV)/.full  ## ... and the torch extras (about 7 GB)

demo: setup  ## run pipelines/demo.yaml end to end and say where to look
	$(BIN)/vidcap run pipelines/demo.yaml --output $(OUT)
	@$(BIN)/vidcap inspect $(OUT) -n 1
	@echo
	@echo "shards:      $(OUT)/shards"
	@echo "look at more: $(BIN)/vidcap inspect $(OUT)"
	@echo "your videos:  $(BIN)/vidcap run pipelines/demo.yaml --input FOLDER --output RUN"

test: setup-dev  ## the core tests: a few minutes, no torch, no network
	$(BIN)/python -m pytest -n $(JOBS) -m "not full and not gpu and not weights and not slow and not vllm"

test-all: setup-full  ## every test that needs no GPU and no weights
	$(BIN)/python -m pytest -n $(JOBS) -m "not gpu and not weights and not vllm"

test-vllm: setup-dev  ## a real vLLM server, in an environment of its own (3.4 GB)
	tests/vllm/setup.sh $(VENV)-vllm
	VIDCAP_VLLM_PYTHON=$(VENV)-vllm/bin/python $(BIN)/python -m pytest tests/vllm

test-extras: setup-dev  ## each extra alone in a fresh environment, with its backend's tests (EXTRAS="hub clip" for some)
	$(BIN)/python tests/extras/check_extra.py $(or $(EXTRAS),all)

# The tables of benchmarks/README.md. What runs a core alone is measured in a core alone.
CORE_BENCHES := decode cut split end_to_end dispatch memory select_clips
FULL_BENCHES := shots/compare score load

bench: setup  ## every table of benchmarks/README.md that needs no peer and no GPU: about an hour on two quiet cores
	@for name in $(CORE_BENCHES); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done
	@$(MAKE) --no-print-directory setup-full
	@for name in $(FULL_BENCHES); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done
	tests/vllm/setup.sh $(VENV)-vllm
	$(BIN)/python benchmarks/fuse.py --vllm $(VENV)-vllm/bin/python
	$(BIN)/python benchmarks/tables.py

bench-peers: setup  ## ... and splitting against video2dataset, Data-Juicer and PySceneDetect, in environments of their own
	benchmarks/peers/setup.sh $(VENV)-peers
	$(BIN)/python benchmarks/split.py --peers $(VENV)-peers
	$(BIN)/python benchmarks/tables.py

lint: setup-dev  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

fmt: setup-dev  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: setup-dev  ## mypy, strict
	$(BIN)/mypy

check: lint type test  ## what to run before a commit

golden: setup-dev  ## write the golden digests anew (then raise the version of each stage that changed)
	VIDCAP_WRITE_GOLDEN=1 $(BIN)/python -m pytest -q tests/golden

demo-media: setup  ## render the demo corpus again
	$(BIN)/python pipelines/demo/render.py

sample: setup  ## make shards/sample anew: one small real shard
	rm -rf shards/out/sample shards/sample
	$(BIN)/vidcap run pipelines/demo.yaml --quiet --set name=sample --set input.manifest=pipelines/demo/media/sunrise.mp4 \
		--output shards/out/sample
	cp -r shards/out/sample/shards shards/sample

clean:  ## remove environments and outputs
	rm -rf $(VENV) $(VENV)-vllm $(VENV)-peers shards/out .mypy_cache .ruff_cache .pytest_cache .hypothesis
