"""The subcommands of `gmp`, one file each: a file here *is* the subcommand of its name (``_`` in it becomes ``-``).

A file has a `command` (a click command or group) and a `SECTION`, one of those in `gmp.cli.group`. ``gmp --help`` imports
all of them: at their top they import click and `gmp.cli` only, and in the functions what is slow (rich, tomlkit,
cryptography). Files that begin with ``_`` are none.
"""
