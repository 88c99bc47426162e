"""List what kernels take of a GPU, from what `nvcc -Xptxas -v` prints: cuda_registers.py LOG..."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import re
import sys
from pathlib import Path

# Parts of mangled names -> what people call it. Device functions that the compiler did not inline count for themselves.
NAMES = {
    "backward_edges": "layer, way back along edges",
    "DeviceLayer": "layer",
    "FindEdges": "edges within the cutoff",
    "SortSpecies": "atoms by species",
    "SumEnergies": "sum of energies",
    "SumVirial": "virial",
}


def rows(log: str, precision: str) -> list[tuple[str, ...]]:
    found = []
    pattern = re.compile(
        r"Function properties for (\S+)\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r"(?:\s+ptxas info\s+: Used (\d+) registers)?"
    )
    for name, stack, stores, loads, registers in pattern.findall(log):
        for part, title in NAMES.items():
            if part in name:
                found.append((title, precision, registers or "-", stack, stores, loads))
                break
    return found


def main() -> None:
    print("| kernel or function | precision | registers | stack, B | spill stores, B | spill loads, B |")
    print("|---|---|---|---|---|---|")
    for log in sys.argv[1:]:
        for row in sorted(set(rows(Path(log).read_text(), Path(log).stem))):
            print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
