# Everything a person needs; `make help` lists it. HARDWARE=gpu picks the CUDA lock (never used on this project's CI).
SHELL := /bin/bash
VENV ?= .venv
# What .venv was made for, or cpu.
HARDWARE ?= $(or $(patsubst $(VENV)/ready-%,%,$(firstword $(wildcard $(VENV)/ready-*))),cpu)
# Of the locks. The CPU build of torch was taken for 3.11, and CUDA's images have 3.12.
VERSION_cpu := 3.11
VERSION_gpu := 3.12
VERSION := $(VERSION_$(HARDWARE))
PYTHON ?= python$(VERSION)
LOCK := requirements/$(HARDWARE).lock
# What is installed before the lock, without a hash: torch for the CPU.
TORCH := $(wildcard requirements/$(HARDWARE)-torch.txt)
BIN := $(VENV)/bin
READY := $(VENV)/ready-$(HARDWARE)
UV ?= uv
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: help setup demo tiny study test unit e2e hosts bench fuzz chaos soak lint audit lock clean \
	cluster-up cluster-status cluster-down submit logs stop dashboard plan doctor images

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(READY) ## create .venv from the lock (again only if the lock or pyproject.toml has changed)

# --no-deps: the lock is complete, so no resolver runs. --require-hashes: a file that is not the one that was locked is
# refused. The CPU build of torch is on PyTorch's own index, not on PyPI, unless a mirror has it.
$(READY): $(LOCK) $(TORCH) pyproject.toml
	@test "$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = "$(VERSION)" || \
		{ echo "Python $(VERSION) is needed; say which: make $(MAKECMDGOALS) PYTHON=/path/to/python$(VERSION)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -d $(VENV)/lib/python$(VERSION) || { echo "$(VENV) has another Python than $(VERSION): remove it"; exit 1; }
	@echo "installing $(LOCK) into $(VENV) (minutes, once)"
	@$(if $(TORCH),$(BIN)/pip install --quiet --no-deps --requirement $(TORCH) || \
		$(BIN)/pip install --quiet --no-deps --index-url $(TORCH_INDEX) --requirement $(TORCH))
	@$(BIN)/pip install --quiet --no-deps --require-hashes --requirement $(LOCK)
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/ready-* && touch $@

demo: $(READY) ## train SmolLM2-135M on arithmetic with DSDR, about 13 minutes on 2 cores
	$(BIN)/python -m dsdr_verl.main_ppo +algorithm=dsdr trainer.experiment_name=demo-$$(date +%Y%m%d-%H%M%S)

tiny: $(READY) ## the same path with a model of a million parameters, about 2 minutes
	$(BIN)/python -m dsdr_verl.main_ppo +algorithm=dsdr profile=tiny trainer.experiment_name=tiny-$$(date +%Y%m%d-%H%M%S)

study: $(READY) ## eight arms, five seeds on Countdown, evaluated and reported; some 5 hours on 2 cores, and goes on if stopped
	$(BIN)/python -m dsdr_verl.sweep recipe/study/sweep.yaml $(ARGS)
	PYTHON=$(BIN)/python bash recipe/study/evaluate.sh outputs/study
	$(BIN)/python -m dsdr_verl.report outputs/study/seed*-grpo outputs/study/seed*-d* outputs/study/*-base --out outputs/study.html

test: $(READY) ## the test suite; `make hosts` has the rest
	$(BIN)/python -m pytest tests/unit tests/e2e -m 'not hosts' $(ARGS)

unit: $(READY) ## the fast tests only
	$(BIN)/python -m pytest -m 'not e2e and not hosts'

e2e: $(READY) ## the tests on the real stack only
	$(BIN)/python -m pytest -m e2e

hosts: $(READY) ## the tests on several hosts in namespaces, and on a Slurm (root; sshd, rsync, slurmd, munge)
	$(BIN)/python -m pytest -m hosts $(ARGS)

doctor: ## look at this machine: versions, memory, ports, the plug-in everywhere; a fix for each failure
	@test -x $(BIN)/python || { echo "there is no $(VENV); run make setup first"; exit 1; }
	@$(BIN)/python -m dsdr_verl.doctor --hardware $(HARDWARE) $(ARGS)

INVENTORY ?= recipe/cluster/$(or $(BACKEND),local).yaml
CLUSTER = $(BIN)/python -m dsdr_verl.cluster $(subst cluster-,,$@) --inventory $(INVENTORY) \
	$(if $(BACKEND),--backend $(BACKEND))

cluster-up: $(READY) ## bring nodes up: BACKEND=local|ssh|slurm|kuberay|skypilot|docker INVENTORY=file.yaml
	$(CLUSTER) $(if $(TIMEOUT),--timeout $(TIMEOUT))

cluster-status: $(READY) ## nodes and jobs (BACKEND, INVENTORY as for cluster-up, here and below)
	@$(CLUSTER)

submit: $(READY) ## train on the cluster: ARGS='+algorithm=dsdr key=value ...'
	@$(CLUSTER) -- $(ARGS)

logs: $(READY) ## follow the last job submitted from here
	@$(CLUSTER) $(if $(JOB),--job $(JOB))

stop: $(READY) ## end the last job submitted from here, or JOB=its-id
	@$(CLUSTER) $(if $(JOB),--job $(JOB))

cluster-down: $(READY) ## end the cluster
	$(CLUSTER)

dashboard: $(READY) ## on the head: where Ray's dashboard is, and Prometheus and Grafana with our board until Ctrl-C
	@$(BIN)/python -m dsdr_verl.watching $(ARGS)

plan: $(READY) ## what a recipe asks of GPUs: RECIPE=qwen3_4b ARM=dsdr NODES=2; all of them without RECIPE
	@$(BIN)/python -m dsdr_verl.plan \
		$(if $(RECIPE),$(RECIPE) --arm $(or $(ARM),dsdr) $(if $(NODES),--nodes $(NODES)),--all) $(ARGS)

bench: $(READY) ## measure training, scoring and memory, each side by side with what it is compared to
	$(BIN)/python -m tests.bench

fuzz: $(READY) ## 100,000 generated responses through the scoring service
	$(BIN)/python -m tests.fuzz

chaos: $(READY) ## faults in every process at every stage, a run each: ARGS=--once, '--sample 10', --faults, --kinds, --stages
	$(BIN)/python -m tests.chaos $(ARGS)

soak: $(READY) ## 2 hours of the tiny profile; memory, descriptors, threads and step time must not grow
	$(BIN)/python -m tests.soak $(ARGS)

lint: $(READY) ## ruff and hadolint
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/hadolint docker/Dockerfile.*

audit: $(READY) ## known vulnerabilities of what the locks pin (OSV); ARGS='--ignore-vuln ID'
	@$(BIN)/python -m tests.audit $(ARGS)

images: ## build the CPU and the CUDA image (Docker with BuildKit)
	docker build -f docker/Dockerfile.cpu -t dsdr-verl:cpu --build-arg REVISION=$$(git rev-parse HEAD) .
	docker build -f docker/Dockerfile.cuda -t dsdr-verl:cuda --build-arg REVISION=$$(git rev-parse HEAD) .

# Twice: first the versions, then the hashes of all files that PyPI has of them, for any mirror serves some of those.
HASHED = $(UV) pip compile --quiet --no-deps --generate-hashes --no-annotate --no-header

lock: ## resolve both locks anew (needs uv)
	$(UV) pip compile --quiet pyproject.toml --extra cpu --extra dev --override requirements/cpu-overrides.txt \
		--extra-index-url $(TORCH_INDEX) --python-version $(VERSION_cpu) --no-annotate --no-header \
		--no-emit-package torch -o requirements/cpu.lock
	$(HASHED) --python-version $(VERSION_cpu) requirements/cpu.lock -o requirements/cpu.lock
	$(UV) pip compile --quiet pyproject.toml --extra gpu --python-version $(VERSION_gpu) \
		--python-platform x86_64-manylinux_2_28 --no-annotate --no-header -o requirements/gpu.lock
	$(HASHED) --python-version $(VERSION_gpu) --python-platform x86_64-manylinux_2_28 requirements/gpu.lock \
		-o requirements/gpu.lock

clean: ## remove .venv and caches; runs in outputs/ stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
