# Everything runs in .venv, which `make setup` builds; nothing is installed outside it.
#
# pip's own settings (environment, pip.conf) are honoured. On Linux the registry's torch brings gigabytes of CUDA libraries;
# for the small CPU build let pip find PyTorch's CPU wheels of torch and torchvision before you call make, by PIP_FIND_LINKS or
# PIP_EXTRA_INDEX_URL (PyTorch's "Get started" page has the address).

PYTHON ?= python3
BUDGET ?= laptop
HOW = --budget $(BUDGET) $(if $(SEEDS),--seeds $(SEEDS))
BIN := .venv/bin
STAMP := .venv/.set-up
# torch, torchvision and what only torch's CUDA build needs: which of their builds there is depends on the machine, and so do the hashes.
NVIDIA := cublas cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile curand cusolver cusparse cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx
NOT_LOCKED := torch torchvision triton cuda-bindings cuda-pathfinder cuda-toolkit $(addprefix nvidia-,$(NVIDIA))
UNFINISHED := .venv/.unfinished

.DEFAULT_GOAL := help
FIGURES := reproduce-fig2 reproduce-fig3 reproduce-fig4 reproduce-fig5 reproduce-fig6 reproduce-fig7
.PHONY: help setup test lint check format lock audit $(FIGURES) reproduce-all bench data wheel clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv and install clbench into it (PYTHON=python3.12: the interpreter; LOCKED=1: verified by requirements.lock)

# The file made first becomes the stamp at the end. If it is still there, a set-up was interrupted: pip may have left half a package
# behind, so .venv is built from the beginning.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "setup: $(PYTHON) not found; name a Python 3.11 or newer: make setup PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup: clbench needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1); name another: make setup PYTHON=..." >&2; exit 1; }
	@echo "setup: installing clbench and what it needs into .venv (minutes, the first time)"
	@if [ -e $(UNFINISHED) ]; then rm -rf .venv; fi
	@mkdir -p .venv && touch $(UNFINISHED)
	@$(PYTHON) -m venv .venv
	@$(if $(LOCKED),$(BIN)/python -m pip install -qq --no-deps --require-hashes --requirement requirements.lock)
	@$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[avalanche,dev]'
	@mv $(UNFINISHED) $@

test: setup ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --maxprocesses 4 --dist loadfile # files in parallel, a thread for each

lint: setup ## Check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy clbench stubs/clbench benchmarks

check: setup ## Put every method of the zoo through the conformance suite
	$(BIN)/clbench check --all

format: setup ## Sort the imports and format the code
	$(BIN)/ruff check --select I --fix
	$(BIN)/ruff format

lock: ## Write requirements.lock: versions and SHA-256 of all packages but torch and torchvision (needs uv)
	@command -v uv >/dev/null || { echo "lock: uv not found; install it, for example with: pipx install uv" >&2; exit 2; }
	@echo qpsolvers >.lock-override # avalanche-lib asks for an extra of it by a name that pip does not know, so pip installs none
	uv pip compile -q --universal --generate-hashes --extra avalanche --extra dev --constraint constraints.txt --override .lock-override \
		$(addprefix --no-emit-package ,$(NOT_LOCKED)) --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml; \
		status=$$?; rm -f .lock-override; exit $$status

audit: ## Look for known vulnerabilities in the packages of requirements.lock and constraints.txt (needs pip-audit and a network)
	@command -v pip-audit >/dev/null || { echo "audit: not done: pip-audit not found; install it, for example with: pipx install pip-audit" >&2; exit 2; }
	@pip-audit --strict --progress-spinner off --disable-pip --no-deps -r requirements.lock -r constraints.txt >.audit 2>&1; status=$$?; \
		cat .audit; grep -q "nown vulnerabilit" .audit || status=2; rm -f .audit; \
		[ $$status -ne 2 ] || echo "audit: not done: pip-audit could not look up every package, as said above" >&2; exit $$status

reproduce-fig2: setup ## The paper's Figure 2: GG at image scale (beyond BUDGET=smoke it needs CIFAR-100)
	$(BIN)/clbench figure fig2-right $(if $(filter smoke paper,$(BUDGET)),fig2-left) $(HOW)

reproduce-fig3: setup ## Figure 3: SupSup in GNu against methods that are told the task
	$(BIN)/clbench figure fig3-left fig3-right $(HOW)

reproduce-fig4: setup ## Figure 4: accuracy against tasks learned (BUDGET=smoke|laptop|paper, SEEDS=0,1,2)
	$(BIN)/clbench figure fig4 $(HOW)

reproduce-fig5: setup ## Figure 5: rotations distinguished by Binary; One-Shot and Binary for BatchE
	$(BIN)/clbench figure fig5-left fig5-right $(HOW)

reproduce-fig6: setup ## Figure 6: the effect of the output size
	$(BIN)/clbench figure fig6-left fig6-left-sizes fig6-right fig6-right-sizes $(HOW)

reproduce-fig7: setup ## Figure 7: HopSupSup finds masks in a Hopfield network, with more images and with more masks too
	$(BIN)/clbench figure fig7 groups hopfield $(HOW)

# Figures whose data are not here are named and left out; claims and report come from the others.
reproduce-all: setup ## All figures of the paper and beyond it, its claims judged, and a report
	$(BIN)/clbench figure --all $(HOW) || [ $$? -eq 2 ]
	$(BIN)/clbench claims
	$(BIN)/clbench report

bench: setup ## Measure speed and memory
	$(BIN)/python -m benchmarks

data: setup ## List the data sets: what is here, what is missing and how to get it
	$(BIN)/clbench data

wheel: setup ## Build a wheel into dist/
	@rm -rf build # setuptools would pack files that have since been deleted
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

clean: ## Remove build artefacts and caches (not .venv, data or results)
	rm -rf build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find clbench methods scenarios tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
