"""``python -m equipot``: the command."""
# SPDX-License-Identifier: MIT

from equipot.cli import main

main()
