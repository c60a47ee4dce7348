# make run and make test are all that a new user needs; both set up what is missing. `make` alone lists the rest.
#
# Variables: PYTHON (the interpreter that makes .venv), CONFIG and ARGS (of make run), ARGS (of make test, test-foreign,
# test-compiled, bench, chaos), JOBS (of make test, test-foreign), PYTHON_GPU and OUT (of make test-gpu).

# bash: for pipefail.
SHELL  := /bin/bash
VENV   := .venv
CONFIG ?= configs/resnet.yaml
ARGS   ?=

# The first one that is new enough. Each is started, since a program of that name may not work.
ifeq ($(origin PYTHON), undefined)
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11 python3.10; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && { echo "$$python"; break; }; done)
endif

# Only `make compiled` compiles, and not beside the sources.
unexport TRTLAB_COMPILE

# -qq: errors only.
PIP := $(VENV)/bin/python -m pip install -qq --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run run-ocr test test-foreign test-gpu test-build compiled test-compiled check check-tensorrt bench chaos clean

help:  ## list these commands
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-21s %s\n", $$1, $$2 }'

run: $(VENV)/.core  ## set up what is missing, then: pipeline run configs/resnet.yaml
	@$(VENV)/bin/pipeline run $(CONFIG) $(ARGS)

run-ocr: $(VENV)/.core photos/text/page.png  ## read an invoice and a scanned page: pipeline run configs/ocr.yaml
	@mkdir -p build
	@$(VENV)/bin/pipeline run configs/ocr.yaml --output build/ocr.jsonl --overwrite $(ARGS)
	@$(VENV)/bin/python photos/text/print_lines.py build/ocr.jsonl

# Three at a time, even on two cores: tests of processes mostly wait.
JOBS ?= 3
test: $(VENV)/.dev  ## set up what is missing, then pass the test suite
	@$(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# If TensorRT-RTX (see `make test-build`) cannot be fetched, its tests are skipped, and say so.
test-foreign: $(VENV)/.dev  ## pass the tests that need a package index (models, TensorRT-RTX) or minutes
	@$(MAKE) --no-print-directory $(RTX)/.there || echo "no TensorRT-RTX: its tests are skipped" >&2
	@$(VENV)/bin/python -m pytest -m foreign -n $(JOBS) --dist worksteal $(ARGS)

# A GPU host may have no package index, so nothing is installed: PYTHON_GPU needs the packages that docs/gpu.md names.
PYTHON_GPU ?= $(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python,$(PYTHON))
OUT ?= build
test-gpu:  ## on a GPU host: build the plans, pass the GPU tests, leave a report in build (or in OUT)
	@mkdir -p $(OUT)
	@set -o pipefail; ended=0; \
	$(PYTHON_GPU) -m pytest -m gpu tests/gpu -s --junitxml=$(OUT)/gpu-tests.xml $(ARGS) 2>&1 \
		| tee $(OUT)/gpu-tests.log || ended=$$?; \
	$(PYTHON_GPU) -m bench.report $(OUT)/gpu-tests.xml > $(OUT)/gpu-tests.md; exit $$ended

# Both need neither a GPU nor TensorRT, only packages of PyPI. They go into build, so that .venv does not change.
RTX      := build/tensorrt-rtx
BINDINGS := build/tensorrt-bindings
test-build: $(VENV)/.dev $(RTX)/.there  ## build plans with TensorRT-RTX, without a GPU (fetches 95 MB the first time)
	@$(VENV)/bin/python -m pytest -m "" tests/unit/stages/engines/tensorrt/test_build.py $(ARGS)

check-tensorrt: $(VENV)/.dev $(BINDINGS)/.there  ## compare the engine with the bindings of TensorRT 8.6 to 11 and RTX
	@$(VENV)/bin/python -m pytest -m foreign tests/bindings $(ARGS)

# A tree of its own: the package that users install, and the files that tests and benchmarks read. It is made from
# nothing, since files of an earlier tree could be imported.
COMPILED := build/compiled
compiled: $(VENV)/.dev  ## compile the code that every request passes through, into build/compiled (needs a C compiler)
	@rm -rf $(COMPILED)
	@TRTLAB_COMPILE=1 $(PIP) --no-deps --target $(COMPILED) .
	@cp -r .ci bench configs docs models photos tests LICENSE Makefile NOTICE *.md *.toml setup.py $(COMPILED)

# The variable tells the tests what they must find: tests/architecture/test_compiled.py.
test-compiled: compiled  ## pass the test suite with the compiled code
	@cd $(COMPILED) && TRTLAB_COMPILE=1 PYTHONPATH=$(abspath $(COMPILED)) $(abspath $(VENV))/bin/python -m pytest $(ARGS)

check: $(VENV)/.dev  ## types (mypy --strict), style (ruff), import contracts (import-linter)
	$(VENV)/bin/mypy --strict -p shm -p stages -p pipeline -p bench
	$(VENV)/bin/ruff check
	$(VENV)/bin/lint-imports

bench: $(VENV)/.core  ## measure the runtime against its floors; see bench/README.md
	@$(VENV)/bin/python -m bench.run $(ARGS)

chaos: $(VENV)/.dev  ## kill processes again and again under load, and count what was lost; see docs/reliability.md
	@$(VENV)/bin/python -m bench.chaos $(ARGS)

clean:  ## remove .venv, build outputs and caches; pulled models stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

photos/text/page.png: photos/text/make_pages.py $(VENV)/.core
	@echo "drawing the invoice, fetching scikit-image's page ..." >&2
	@$(VENV)/bin/python $<
	@touch $@

$(RTX)/.there: | $(VENV)/bin/python
	@$(PIP) --target $(RTX) 'tensorrt-rtx-cu13>=1.7'
	@touch $@

# The oldest and the newest wheels of each. Not every one exists for every Python.
$(BINDINGS)/.there:
	@mkdir -p $(BINDINGS)
	@for wheel in tensorrt-bindings==8.6.1 tensorrt-cu12-bindings==10.0.1 'tensorrt-cu12-bindings>=10,<11' \
		'tensorrt-cu12-bindings>=11' tensorrt-rtx-cu13-bindings; do \
		$(VENV)/bin/python -m pip download -qq --disable-pip-version-check --no-deps --only-binary :all: \
			-d $(BINDINGS) "$$wheel" || echo "no $$wheel for this Python: left out" >&2; \
	done
	@$(PIP) --target $(BINDINGS)/stubgen pybind11-stubgen
	@touch $@

# The packages are installed again if pyproject.toml, which alone names them, is newer.
$(VENV)/.core: pyproject.toml $(VENV)/bin/python
	@echo "installing what the pipeline needs into $(VENV) ..." >&2
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/bin/python
	@echo "installing what the pipeline and its tests need into $(VENV) ..." >&2
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.core

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { \
		echo "found no Python >= 3.10; on Debian and Ubuntu: sudo apt install python3 python3-venv" >&2; \
		echo "or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "$(PYTHON) is not a Python >= 3.10; name another one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: sudo apt install python$$version-venv" >&2; \
		exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
