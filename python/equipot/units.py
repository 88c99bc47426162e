"""Units and orders that people expect of stresses."""
# SPDX-License-Identifier: MIT

GPA = 160.21766208
"""Of one eV/Å³."""
VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
"""Rows and columns of a tensor in ASE's (Voigt's) order: xx, yy, zz, yz, xz, xy."""
