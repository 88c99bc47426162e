# Everything by one command each; they set up .venv/ first and may be repeated. `make help` lists them.
# SPDX-License-Identifier: MIT
.PHONY: help demo test build bench cuda-check lint format tidy clean
.DEFAULT_GOAL := help

help:             ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: build       ## molecular dynamics in LAMMPS with a potential from potentials/
	@.venv/bin/python examples/melt_silicon/run.py $(DEMO)

test: build       ## all tests: C++, Python, LAMMPS on 1, 2 and 4 ranks
	@tools/run_tests.sh

build:            ## set up .venv/ with equipot, lmp and mpirun
	@tools/setup.sh

bench: build      ## time and memory per atom; options in BENCH, see benchmarks/README.md
	@.venv/bin/python benchmarks/run.py $(BENCH)

cuda-check:       ## compile the kernels for CUDA with nvcc (runs nothing)
	@tools/cuda_check.sh

lint:             ## ruff, mypy and clang-format, changing nothing
	@tools/lint.sh

format:           ## ruff and clang-format, in place
	@tools/lint.sh --fix

tidy: build       ## clang-tidy on the library
	@clang-tidy --quiet -p build/package $$(find src -name '*.cpp') kokkos_kernels/instance.cpp

clean:            ## remove what was built here (the cache folder stays)
	rm -rf build .venv out dist
