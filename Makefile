# `make` alone lists what can be asked for. Nothing has to be installed or activated beforehand:
# each target first makes what it needs. A stamp file stands for a step that is done, so a second
# call repeats none of it; a change in csrc/ only rebuilds, one in requirements-dev.txt reinstalls.

PYTHON ?= python3
VENV ?= .venv
DEVICE ?= cpu

BIN := $(VENV)/bin
TOOLS := $(VENV)/tools.stamp
BUILT := $(VENV)/built.stamp
TRITON36 := build/triton36/built.stamp
SANITIZED := build/sanitize/built.stamp
DIST := build/dist
CPP_FILES := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.inl')
CPP_FOLDERS := $(shell find csrc -type d)
TIDY_FILES := $(filter %.cpp,$(CPP_FILES))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:  # make would take the folder csrc/cpu/kernels for the program of csrc/cpu/kernels.cpp
.PHONY: help demo demo-ddp test test-slow test-gpu-kernels sanitize works docs notebook bench \
	bench-full lint tidy format build dist clean distclean

help:  ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

demo: $(BUILT)  ## Train a small network on handwritten digits, on DEVICE=cpu or cuda, into build/demo/
	$(BIN)/python examples/train_digits.py --device $(DEVICE) --output build/demo

demo-ddp: $(BUILT)  ## Train on the same digits in two processes
	OMP_NUM_THREADS=1 $(BIN)/torchrun --standalone --nproc-per-node 2 examples/train_digits_ddp.py

test: $(BUILT)  ## Run the tests and the docstrings' examples, with the package's coverage
	$(BIN)/pytest tests convgrad_ext --doctest-modules -m "not slow" --cov -n 2

test-slow: $(BUILT)  ## Run the slow tests as well
	$(BIN)/pytest tests convgrad_ext --doctest-modules -n 2

# The older Triton's interpreter uses what NumPy deprecates.
test-gpu-kernels: $(BUILT) $(TRITON36)  ## Prove the kernels for a GPU without one, with Triton 3.6 as well, minutes
	$(BIN)/pytest tests/test_triton.py tests/test_triton_compiled.py -n 2
	PYTHONPATH="$(CURDIR)" PYTEST_ADDOPTS='-W "ignore:Conversion of an array:DeprecationWarning"' \
		$(dir $(TRITON36))bin/python -m pytest tests/test_triton.py tests/test_triton_compiled.py -n 2

# What the tests below call in other processes inherits the sanitizers. Python keeps memory until it
# ends, which is no leak; memory that is refused has to come back as an error; and the sanitizers look
# for libstdc++, which Python alone would load later, when they start.
sanitize: $(SANITIZED)  ## Run passes, kernels and extreme geometry under ASan and UBSan (GCC), minutes
	LD_PRELOAD=$$(for library in libasan.so libubsan.so libstdc++.so.6; do \
		printf '%s:' "$$($${CXX:-c++} -print-file-name=$$library)"; done) \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
	PYTHONPATH="$(abspath $(dir $(SANITIZED))lib)" $(BIN)/pytest --capture=sys -p no:cacheprovider -n 2 \
		-k "not complex" tests/test_by_hand.py tests/test_passes.py::test_named_cases_agree_with_torch \
		tests/test_passes.py::test_exact_on_a_grid tests/test_kernels.py tests/test_winograd_cost.py \
		tests/test_extremes.py

works: $(BUILT)  ## Ask every cell of docs/works.md, some minutes, and write the page
	$(BIN)/python tests/works.py

docs: $(BUILT)  ## Build the documentation as a site, without network, into build/docs/html/
	$(BIN)/python docs/build.py

notebook: $(BUILT)  ## Execute examples/by_hand.py as a notebook, examples/by_hand.ipynb
	$(BIN)/python examples/notebook.py

bench: $(BUILT)  ## Time every kernel on small layers, two to three minutes, into build/bench/quick/
	$(BIN)/python benchmarks/run.py --quick --output build/bench/quick.json
	$(BIN)/python benchmarks/report.py build/bench/quick.json --output build/bench/quick

bench-full: $(BUILT)  ## Time the fastest kernel on all layers, an hour or more, into build/bench/full/
	$(BIN)/python benchmarks/run.py --output build/bench/full.json
	$(BIN)/python benchmarks/report.py build/bench/full.json --output build/bench/full

lint: $(TOOLS)  ## Check style, formatting and types; needs no build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CPP_FILES)

# Clang reads the commands of the last build. Its wheel has no omp.h, which at::parallel_for can do
# without.
tidy: $(BUILT)  ## Check the C++ with clang-tidy, about a minute
	$(BIN)/ninja -C build/objects -t compdb compile > build/compile_commands.json
	$(BIN)/python $(BIN)/run-clang-tidy.py -quiet -p build -clang-tidy-binary $(BIN)/clang-tidy \
		-extra-arg=-fno-openmp $(TIDY_FILES)

format: $(TOOLS)  ## Format the Python and C++ files in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_FILES)

build: $(BUILT)  ## Compile the extension and install the package, editable

# The environment borrows torch and rich from $(VENV): a .pth file puts that folder on its path, behind
# its own and without the editable install there. -I leaves out the folder that Python starts in.
dist: $(TOOLS)  ## Build sdist and wheel, and check the wheel in an environment of its own, minutes
	rm -rf $(DIST)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m build --no-isolation --outdir $(DIST)
	$(BIN)/python -m venv --without-pip $(DIST)/venv
	cd $(DIST)/venv/lib/python*/site-packages && $(abspath $(BIN))/python -c \
		'import sysconfig; print(sysconfig.get_path("purelib"))' > borrowed.pth
	$(BIN)/pip --disable-pip-version-check --python $(DIST)/venv/bin/python install --quiet \
		--no-index --no-deps --ignore-installed $(DIST)/*.whl
	$(BIN)/pip --disable-pip-version-check --python $(DIST)/venv/bin/python check
	$(DIST)/venv/bin/python -I tests/installed.py $(DIST)/venv
	$(DIST)/venv/bin/python -I -m convgrad_ext check

clean:  ## Remove what was built, but keep the installed tools
	rm -rf build dist *.egg-info convgrad_ext/_C*.so .coverage .hypothesis .*_cache $(BUILT)
	find convgrad_ext tests examples benchmarks docs -name __pycache__ -exec rm -rf {} + 2>/dev/null || true

distclean: clean  ## Remove the installed tools as well
	rm -rf $(VENV)

$(TOOLS): requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo >&2 \
		"$(PYTHON) is missing or older than Python 3.10: name another with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Borrows the rest from $(VENV), as the environment of dist does.
$(TRITON36): $(TOOLS)
	rm -rf $(dir $@)
	$(PYTHON) -m venv $(dir $@)
	$(dir $@)bin/pip install --quiet --disable-pip-version-check triton==3.6.0 numpy==2.2.6
	cd $(dir $@)lib/python*/site-packages && $(abspath $(BIN))/python -c \
		'import sysconfig; print(sysconfig.get_path("purelib"))' > borrowed.pth
	@touch $@

$(SANITIZED): $(TOOLS) $(CPP_FILES) $(CPP_FOLDERS) setup.py $(wildcard convgrad_ext/*.py)
	PATH="$(abspath $(BIN)):$$PATH" CONVGRAD_SANITIZE=1 $(BIN)/python setup.py -q build \
		--build-base $(dir $@) --build-lib $(dir $@)lib
	@touch $@

# The folders are there because a file removed changes only its folder. torch looks for ninja on
# the PATH, and takes one processor and much longer without it.
$(BUILT): $(TOOLS) $(CPP_FILES) $(CPP_FOLDERS) setup.py pyproject.toml
	@command -v "$${CXX:-c++}" >/dev/null || { echo >&2 \
		"no C++ compiler '$${CXX:-c++}': install one (Debian: apt install g++) or set CXX"; exit 1; }
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pip install --quiet --disable-pip-version-check \
		--no-build-isolation --no-deps -e .
	@touch $@
