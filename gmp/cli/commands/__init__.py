"""The subcommands of `gmp`, one file each: a file here *is* the subcommand of its name (``_`` in it becomes ``-``).

A file has a `command` (a click command or group) and a `SECTION`, one of those in `gmp.cli.group`. ``gmp --help`` imports
all of them, so at their top they import only click and `gmp.cli`; what is slow to import (rich, tomlkit, cryptography) they
import in the functions that need it. Files that begin with ``_`` are not subcommands.
"""
