"""The entry point: says what to install if the extra is missing."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the `gmp` command."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        sys.exit(f"gmp: the command needs {error.name}: install gevent-mp[cli], in a clone: pip install '.[cli]'")
    from gmp.cli.group import cli

    cli(prog_name="gmp")


if __name__ == "__main__":
    main()
