#!/usr/bin/env bash
# Checks the style of Python (ruff) and C++ (clang-format), which --fix mends, and the types of the package (mypy). Tools
# that are missing are named.
# SPDX-License-Identifier: MIT
set -uo pipefail
cd "$(dirname "$0")/.."
fix=${1:-}
failed=0

ruff=$(command -v .venv/bin/ruff || command -v ruff) || {
    tools/setup.sh --environment && .venv/bin/python -m pip install --quiet ruff && ruff=.venv/bin/ruff
}
if [ "$fix" = --fix ]; then
    "$ruff" format python tests tools benchmarks examples && "$ruff" check --fix python tests tools benchmarks examples
else
    "$ruff" format --check python tests tools benchmarks examples &&
        "$ruff" check python tests tools benchmarks examples
fi || failed=1

mypy=$(command -v .venv/bin/mypy) || {
    tools/setup.sh --environment && .venv/bin/python -m pip install --quiet mypy && mypy=.venv/bin/mypy
}
"$mypy" || failed=1

mapfile -t sources < <(find src kokkos_kernels lammps_plugin python/bindings tests/cpp -name '*.cpp' -o -name '*.hpp' -o -name '*.h')
if command -v clang-format >/dev/null; then
    if [ "$fix" = --fix ]; then clang-format -i "${sources[@]}"; else clang-format --dry-run -Werror "${sources[@]}"; fi || failed=1
else
    echo "clang-format is not installed: C++ not looked at" >&2
    failed=1
fi
exit $failed
