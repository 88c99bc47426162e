"""Reference data: structures with energies, forces and virials; read them, check them, divide them."""
# SPDX-License-Identifier: MIT

from equipot.data.checks import Report, check
from equipot.data.energies import atomic_energies, binding_energies
from equipot.data.pictures import data_picture
from equipot.data.reading import read_data
from equipot.data.splitting import split
from equipot.data.structures import DataSet, Finding, Structure

__all__ = [
    "DataSet",
    "Finding",
    "Report",
    "Structure",
    "atomic_energies",
    "binding_energies",
    "check",
    "data_picture",
    "read_data",
    "split",
]
