"""Whose `gmp` this is. On PyPI that name is another project's, with a folder of the same name: installed after gevent-mp it
replaces gmp's `__init__.py`, and takes it along when it is uninstalled. What of gmp is imported by a name of its own imports
this module first, so that the error says so; the script `gmp` looks for itself."""

from __future__ import annotations

import sys

_package = sys.modules["gmp"]
if not hasattr(_package, "__distribution__"):
    from gmp_command import not_ours

    raise ImportError(not_ours(_package), name="gmp")
