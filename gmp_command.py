"""What the installed script `gmp` starts. It stands outside the package, so that it runs before gevent and the rest are
imported: an interrupt in that time ends the process in silence, as it does in the time after the command. Only in the
first hundredths of a second, while Python itself starts, an interrupt is Python's to tell of."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the `gmp` command."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from gmp.cli.main import main as command

    command()
