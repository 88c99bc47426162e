#!/usr/bin/env bash
# Tests of pair_style equipot/kk: gets a LAMMPS with KOKKOS (once, see get_lammps_kokkos.sh), builds the plugin for it, and
# runs the tests of KOKKOS, then those of the plain style with all styles replaced by their KOKKOS versions.
# Usage: kokkos_tests.sh [ARGUMENTS OF PYTEST]
# SPDX-License-Identifier: MIT
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=passive OMP_PROC_BIND=false
venv=$PWD/.venv

lammps=$(tools/get_lammps_kokkos.sh)
command -v ccache >/dev/null && export CMAKE_CXX_COMPILER_LAUNCHER="${CMAKE_CXX_COMPILER_LAUNCHER-ccache}"
mkdir -p build
# One instruction set is enough: which one is chosen has nothing to do with KOKKOS.
{ cmake -G Ninja -S lammps_plugin -B build/kokkos -DLAMMPS_SOURCE="$lammps/source" -DEQUIPOT_LAMMPS_KOKKOS=ON \
    -DKokkos_ROOT="$lammps/kokkos" -DEQUIPOT_MPI_INCLUDE="$venv/include" -DPython_EXECUTABLE="$venv/bin/python" \
    -DEQUIPOT_ISAS=v2 -DEQUIPOT_WERROR="${EQUIPOT_WERROR:-OFF}" && cmake --build build/kokkos; } >build/kokkos.log 2>&1 ||
    { tail -n 40 build/kokkos.log >&2; exit 1; }

export EQUIPOT_TEST_LMP=$lammps/bin/lmp EQUIPOT_TEST_PLUGIN=$PWD/build/kokkos/equipotplugin.so
# It may have been built from another folder, with the MPI of that one's environment, which is the same.
export LD_LIBRARY_PATH=$venv/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
"$EQUIPOT_TEST_LMP" -help >/dev/null || { echo "the LAMMPS in $lammps does not run: remove that folder" >&2; exit 1; }
"$venv/bin/python" -m pytest tests/lammps/test_kokkos.py --durations=5 "$@"
[ $# -gt 0 ] && exit 0
# Without what this LAMMPS lacks: packages MC, MOLECULE and EXTRA-PAIR, and other than binned neighbour lists with KOKKOS.
EQUIPOT_TEST_ARGUMENTS="-k on -sf kk -pk kokkos comm device" "$venv/bin/python" -m pytest \
    tests/lammps/test_{commands,errors,hybrid}.py --durations=3 \
    -k "not (atoms_that_change_type or bonded_atoms or dispersion or neighbour_settings)"
