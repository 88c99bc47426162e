"""Copies a LAMMPS source tree without the styles that our tests leave alone: they would triple the time to compile it.

Usage: prune_lammps.py FROM TO
"""
# SPDX-License-Identifier: MIT

import re
import shutil
import sys
from pathlib import Path

STYLES = """
    atom_vec_atomic atom_vec_hybrid
    pair_hybrid pair_hybrid_overlay pair_lj_cut
    fix_nve fix_nvt fix_npt fix_pair fix_balance fix_box_relax fix_deform fix_halt
    compute_temp compute_pressure compute_pe compute_pe_atom compute_ke compute_ke_atom compute_stress_atom
    compute_centroid_stress_atom compute_heat_flux compute_pair compute_reduce
    dump_custom min_cg reader_native region_block verlet
    balance change_box create_atoms create_box delete_atoms deprecated displace_atoms minimize read_data read_restart
    replicate rerun run set velocity write_data write_restart
""".split()  # noqa: SIM905
WHOLE_FAMILIES = ("nbin_", "npair_", "nstencil_", "ntopo_")  # the neighbour lists'


def main(source: Path, target: Path) -> None:
    """Keeps what is no style, the styles above, and what those include."""
    # LAMMPS lists the styles of src/ by looking there, and those of KOKKOS/ that have a namesake in src/.
    folders = [source / "src", source / "src" / "PLUGIN", source / "src" / "KOKKOS"]
    headers = {path.name: path for folder in reversed(folders) for path in folder.glob("*.h")}
    styles = {name for name, path in headers.items() if re.search(r"^#ifdef \w+_CLASS", path.read_text(), re.MULTILINE)}
    keep = {name for name in headers if name not in styles or name.startswith(WHOLE_FAMILIES)}
    keep = {name for name in keep if headers[name].parent.name != "KOKKOS"}
    keep |= {f"{name}.h" for name in STYLES}
    keep |= {name for name in headers if headers[name].parent.name == "PLUGIN"}

    # KOKKOS.cmake compiles these always; of a style that stays, its KOKKOS version.
    always = re.findall(r"/(\w+)\.cpp", (source / "cmake/Modules/Packages/KOKKOS.cmake").read_text())
    queue = sorted(keep) + [f"{name}.h" for name in always]
    seen: set[str] = set()
    while queue:
        name = queue.pop()
        if name in seen or name not in headers:
            continue
        seen.add(name)
        path = headers[name]
        queue.append(f"{path.stem}_kokkos.h")
        for text in (path, path.with_suffix(".cpp")):
            if text.exists():
                queue += re.findall(r'^\s*#include "(?:KOKKOS/)?(\w+\.h)"', text.read_text(), re.MULTILINE)

    for folder in folders:
        where = target / folder.relative_to(source)
        where.mkdir(parents=True)
        for path in folder.iterdir():
            header = f"{path.stem}.h"
            if path.is_file() and (header in seen or header not in headers or header not in styles):
                shutil.copy2(path, where)
    for name in ("cmake", "src/fmt", "src/STUBS"):
        shutil.copytree(source / name, target / name)
    (target / "doc").mkdir()
    shutil.copy2(source / "doc/lammps.1", target / "doc")
    for path in source.glob("src/*/"):  # LAMMPS's CMake looks into the folder of each package
        if path.is_dir():
            (target / "src" / path.name).mkdir(exist_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
