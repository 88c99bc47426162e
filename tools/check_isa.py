"""Checks that code made for newer processors cannot be reached on older ones. Usage: check_isa.py BINARY BASELINE...

Inline functions of Kokkos and of the standard library exist in the objects of every instruction set, and the linker
keeps one copy. If code for any machine (the BASELINE objects and archives) calls such a function and the copy kept is
one with AVX instructions, older machines stop with an illegal instruction, and no test on a newer machine shows it.
BINARY must not be stripped.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import re
import subprocess
import sys

FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
# AVX and later all begin with v (verr and verw are older); the others are masks and BMI.
NEWER = re.compile(r"\s(v(?!err|erw)[a-z0-9]+|k[a-z]+[bwdq]|shlx|shrx|sarx|rorx|mulx|andn|bextr|bzhi|pdep|pext)\s")
# The namespaces of the kernels for newer processors, as they appear in mangled names.
KERNEL = re.compile(r"2v[34](3Isa|E|4make)")


def output_of(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def shared_functions(files: list[str]) -> set[str]:
    """Functions of which each of these objects brings its own copy, for the linker to choose from."""
    lines = output_of("nm", "--defined-only", *files)
    return {line.split()[2] for line in lines if " W " in line}


def newer_functions(binary: str) -> dict[str, str]:
    """Functions that hold instructions newer than the baseline, each with the first of them."""
    name, found = "", {}
    for line in output_of("objdump", "--disassemble", "--no-show-raw-insn", binary):
        header = FUNCTION.match(line)
        if header:
            name = header.group(1)
        elif NEWER.search(line):
            found.setdefault(name, line.strip())
    return found


def main() -> int:
    binary, *baseline = sys.argv[1:]
    newer = newer_functions(binary)
    kernels = {name for name in newer if KERNEL.search(name)}
    reachable = sorted((newer.keys() - kernels) & shared_functions(baseline))
    for name in reachable:
        print(f"{binary}: {name}\n    {newer[name]}")
    if not kernels:
        print(f"{binary}: no kernel has AVX instructions; is the file stripped?")
    print(f"{len(kernels)} kernel functions for newer processors, {len(reachable)} in the way of older ones")
    return 0 if kernels and not reachable else 1


if __name__ == "__main__":
    sys.exit(main())
