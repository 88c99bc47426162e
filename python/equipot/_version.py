"""The version of the package, in one place."""
# SPDX-License-Identifier: MIT

__version__ = "0.1.0"
