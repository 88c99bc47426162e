"""Units and orders that people expect of errors and stresses."""
# SPDX-License-Identifier: MIT

GPA = 160.21766208
"""Of one eV/Å³."""
VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
"""Rows and columns of a tensor in ASE's (Voigt's) order: xx, yy, zz, yz, xz, xy."""
ERROR_UNITS = {"energy": "meV/atom", "forces": "meV/Å", "stress": "GPa"}
"""Of errors in tables, reports and model cards."""
LOG_UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³"}
"""Of errors in the logs of training runs."""
FROM_LOG = {"energy": 1e3, "forces": 1e3, "stress": GPA}
"""Factors from the units of logs to those of errors elsewhere."""
