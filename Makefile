# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
OUT ?= out/digits

.PHONY: demo test test-long edge-tools lint types docs bench-demo bench-frontend bench-latency bench-mask-cost bench-learning bench-frontier bench-cpu bench-cpu-costs bench-arm bench-gpu setup clean

setup: $(VENV)/.installed

# torch comes first and pinned: any other order may fetch a CUDA build of several gigabytes.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet torch==2.13.0 -e '.[demo,dev,cuda]'
	$(BIN)/pip install --quiet --no-deps spikingjelly==2.0.0 snntorch==1.0.0 norse==1.1.0 sinabs==3.1.3 nir==1.0.8 nirtorch==2.6
	touch $@

demo: setup
	$(BIN)/python -m spikenm_compile demo --out $(OUT)

test: setup edge-tools
	$(BIN)/python -m pytest -n 2 -m 'not long'

# Compilers and emulators for the tests of ARM code; without them and without the right to install, those tests are skipped.
EDGE_PACKAGES = cmake gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf libc6-dev-arm64-cross libc6-dev-armhf-cross qemu-user \
  gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm

edge-tools:
	@missing=$$(for p in $(EDGE_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo='sudo -n'; else sudo=none; fi; \
	if [ "$$sudo" = none ] || ! command -v apt-get >/dev/null; then \
	  echo "edge-tools: tests of ARM code are skipped; to run them: apt-get install" $$missing; \
	else \
	  $$sudo apt-get update -q && $$sudo apt-get install -y -q $$missing || echo "edge-tools: apt-get failed, so that tests of ARM code are skipped"; \
	fi

test-long: setup edge-tools  # what is too slow for every day: about 25 minutes on 2 cores
	$(BIN)/python -m pytest -m long

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

docs: setup  # the tables of docs/frontends.md, asked of the installed libraries
	$(BIN)/python -m spikenm_compile.frontend.support docs/frontends.md

bench-demo: setup  # accuracy over 3 seeds: about 3 minutes on 2 cores
	$(BIN)/python benchmarks/digits.py

bench-frontend: setup  # seconds and memory to read a large network
	$(BIN)/python benchmarks/frontend.py

bench-mask-cost: setup  # time and memory that learning masks adds to a training: about 5 minutes on 2 cores
	$(BIN)/python -m benchmarks.mask_cost

bench-latency: setup
	$(BIN)/python benchmarks/latency.py

bench-learning: setup  # what is missing of the learners' measurements, and their report: hours; results are kept as they come
	for command in acceptance chosen stress init tuning schedules activity frontier; do \
	  $(BIN)/python -m benchmarks.learning $$command || exit 1; done
	$(BIN)/python -m benchmarks.learning plots
	$(BIN)/python -m benchmarks.learning tables

bench-frontier: setup  # accuracy against microseconds: an hour to train what is missing, then minutes; results in benchmarks/results/frontier
	for command in train measure tables plots; do $(BIN)/python -m benchmarks.frontier $$command || exit 1; done

bench-cpu: setup  # native layers and networks against ONNX Runtime and PyTorch: about 15 minutes on an idle machine
	for command in layers networks recorded lines plots tables; do \
	  $(BIN)/python -m benchmarks.cpu $$command || exit 1; done

bench-cpu-costs: setup  # coefficients of targets/cpu.py on this machine: about 20 minutes
	$(BIN)/python -m benchmarks.cpu_costs

bench-arm: setup edge-tools  # instructions of native layers under QEMU; needs llvm-mca too (Debian's llvm-19): minutes
	$(BIN)/python -m benchmarks.arm report

bench-gpu: setup  # needs an NVIDIA GPU and a PyTorch with CUDA: docs/cuda.md
	$(BIN)/python -m benchmarks.gpu

clean:
	rm -rf $(VENV) out .mypy_cache .pytest_cache .ruff_cache
