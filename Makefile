# Everything runs in a virtual environment of its own; each target sets up what it needs, once.
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
TOOLS := build/tools
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Of the image: cpu or gpu, and who builds it.
TARGET ?= cpu
ENGINE ?= docker
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.PHONY: demo test test-worker check bench bench-quick bench-scaling bench-gpu faults soak image image-test sbom chart-test clean

demo: $(VENV)/worker.done ## a simulated shop, a broker, a worker: vectors that move
	@$(BIN)/interest demo $(DEMO)

test: check $(VENV)/all.done ## ruff, mypy, unit, property, functional, integration on a real broker
	$(BIN)/python -m tests $(TESTS)

test-worker: $(VENV)/dev.done ## all tests that need no PyTorch
	$(BIN)/python -m tests -m "not torch" $(TESTS)

check: $(VENV)/all.done ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/bench.done $(PEERS)/done ## this worker beside others, same events, model, broker and run: under 15 minutes
	$(BIN)/python -m tests.benchmarks $(BENCH)

bench-quick: $(VENV)/bench.done $(PEERS)/done ## the same, smaller: under 3 minutes
	$(BIN)/python -m tests.benchmarks --quick $(BENCH)

bench-scaling: $(VENV)/bench.done ## what an event costs as partitions, users, window, model or workers grow: under 6 minutes
	$(BIN)/python -m tests.benchmarks --only scaling $(BENCH)

bench-gpu: $(VENV)/bench.done ## the model on a GPU beside the CPU; ends with what is missing where there is no CUDA
	$(BIN)/python -m tests.benchmarks --only gpu $(BENCH)

faults: $(VENV)/dev.done ## every fault while a load runs: events lost, counted twice, seconds until updates flow again
	$(BIN)/python -m tests.faults $(FAULTS)

soak: $(VENV)/dev.done ## ten minutes of random faults on one fleet
	$(BIN)/python -m tests.faults --soak 600 $(FAULTS)

chart-test: $(VENV)/chart.done $(TOOLS)/helm $(TOOLS)/kube-score $(TOOLS)/keda/done ## the Helm chart: lint, schemas, refusals; needs Go
	CHART_TOOLS=all $(BIN)/python -m pytest tests/chart tests/unit/test_chart.py $(TESTS)

image: ## the container image, TARGET=cpu or gpu, by ENGINE=docker or podman
	$(ENGINE) build --target $(TARGET) --file deploy/Dockerfile --tag interest-stream:$(VERSION)$(if $(filter gpu,$(TARGET)),-gpu) .

image-test: $(VENV)/worker.done ## builds the image and runs it, locked down, on a real broker: about a minute
	PYTHON=$(BIN)/python deploy/image-test $(TARGET)

sbom: ## what is in the image, as CycloneDX: build/sbom-cpu.json
	rm -rf build/sbom
	$(PYTHON) -m venv build/sbom/tool
	build/sbom/tool/bin/python -m pip --quiet --disable-pip-version-check install cyclonedx-bom==7.5.0
	$(PYTHON) -m venv --without-pip build/sbom/image
	build/sbom/tool/bin/python -m pip --quiet --disable-pip-version-check --python build/sbom/image/bin/python \
		install --no-compile --no-deps -r deploy/requirements-$(TARGET).txt
	build/sbom/tool/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file build/sbom-$(TARGET).json build/sbom/image/bin/python
	rm -rf build/sbom

clean:
	rm -rf $(VENV) $(PEERS) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/worker.done: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/dev.done: $(VENV)/worker.done
	$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV)/all.done: $(VENV)/dev.done
	$(PIP) install -c constraints.txt -e ".[dev,train]"
	@touch $@

$(VENV)/bench.done: $(VENV)/dev.done
	$(PIP) install -c constraints.txt -e ".[dev,bench]"
	@touch $@

$(VENV)/chart.done: $(VENV)/dev.done
	$(PIP) install -c constraints.txt -e ".[dev,chart]"
	@touch $@

$(TOOLS)/helm:
	CGO_ENABLED=0 GOBIN=$(CURDIR)/$(TOOLS) go install -ldflags '-s -w' helm.sh/helm/v3/cmd/helm@v3.22.0

$(TOOLS)/kube-score:
	CGO_ENABLED=0 GOBIN=$(CURDIR)/$(TOOLS) go install -ldflags '-s -w' github.com/zegl/kube-score/cmd/kube-score@v1.20.0

$(TOOLS)/keda/done: ## KEDA's definitions of its objects and of the parameters of its scalers
	@mkdir -p $(@D)
	from=$$(go mod download -json github.com/kedacore/keda/v2@v2.18.0 | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",$$/\1/p') && \
	  install -m 644 $$from/config/crd/bases/keda.sh_scaledobjects.yaml \
	    $$from/config/crd/bases/keda.sh_triggerauthentications.yaml \
	    $$from/schema/generated/scalers-metadata-schema.json $$from/pkg/scalers/kafka_scaler.go $(@D)
	@touch $@

$(PEERS)/done: pyproject.toml tests/benchmarks/constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip --quiet --disable-pip-version-check install -c tests/benchmarks/constraints.txt -e ".[peers]"
	@touch $@
