"""Prints what pyproject.toml asks for: to build, to run, and for the extras named on the command line."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import sys
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10: pip brings a copy along
    from pip._vendor import tomli as tomllib

settings = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
wanted = settings["build-system"]["requires"] + settings["project"]["dependencies"]
for extra in sys.argv[1:]:
    wanted += settings["project"]["optional-dependencies"][extra]
# The markers only say "on Linux", where this runs.
print(" ".join(sorted({requirement.split(";")[0].strip() for requirement in wanted})))
