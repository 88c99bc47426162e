#!/usr/bin/env bash
# Runs every suite, each also when an earlier one failed, and ends with a plain summary. Usage: run_tests.sh [SUITE...]
# Suites: cpp (Catch2, and which instructions went where), python, lammps (pytest), cuda (where nvcc is), kokkos (LAMMPS with
# KOKKOS: where tools/get_lammps_kokkos.sh has built one, or with EQUIPOT_KOKKOS_LAMMPS=1, which builds it).
# SPDX-License-Identifier: MIT
set -uo pipefail
cd "$(dirname "$0")/.."
suites=("$@") summary=() failed=0
if [ ${#suites[@]} -eq 0 ]; then
    suites=(cpp python lammps)
    # Compiling the kernels for CUDA needs no GPU, only the toolkit.
    if command -v nvcc >/dev/null || [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]; then suites+=(cuda); fi
    if [ "${EQUIPOT_KOKKOS_LAMMPS:-0}" = 1 ] || [ -f "$(tools/get_lammps_kokkos.sh --where)/complete" ]; then
        suites+=(kokkos)
    else
        summary+=("kokkos   not run: EQUIPOT_KOKKOS_LAMMPS=1 make test gets a LAMMPS with KOKKOS, once, in some 5 minutes")
    fi
fi

# Several ranks and threads share few cores in tests: threads that wait must not spin.
export OMP_WAIT_POLICY=passive OMP_PROC_BIND=false
PATH="$PWD/.venv/bin:$PATH"
export PATH
mkdir -p out

for suite in "${suites[@]}"; do
    echo
    echo "==== $suite"
    start=$SECONDS
    case $suite in
    cpp) ctest --test-dir build/package --output-on-failure ;;
    python | lammps) .venv/bin/python -m pytest "tests/$suite" --durations=5 ;;
    cuda) tools/cuda_check.sh ;;
    kokkos) tools/kokkos_tests.sh ;;
    *) echo "no such suite: $suite"; false ;;
    esac
    code=$?
    if [ $code -eq 0 ]; then
        verdict=passed
    elif [ $code -eq 77 ] && [ "$suite" = kokkos ]; then
        verdict="not run: no LAMMPS, see above"
    elif [ $code -eq 5 ] && [[ $suite == python || $suite == lammps ]]; then
        verdict="FAILED (no tests found)" failed=1
    else
        verdict="FAILED (exit status $code)" failed=1
    fi
    summary+=("$(printf '%-8s %-29s %5d s' "$suite" "$verdict" $((SECONDS - start)))")
done

echo
echo "==== summary"
printf '%s\n' "${summary[@]}"
[ $failed -eq 0 ] && echo "all suites passed" || echo "SOME SUITES FAILED"
exit $failed
