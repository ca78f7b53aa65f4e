"""What the installed script `gmp` starts. It stands outside the package, so that it runs before gevent and the rest are
imported: an interrupt in that time ends the process in silence, as it does in the time after the command. Only in the
first hundredths of a second, while Python itself starts, an interrupt is Python's to tell of. And it is still there when
another project's `gmp` has taken the place of the package."""

from __future__ import annotations

import signal
import sys
from types import ModuleType


def main() -> None:
    """Run the `gmp` command."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    import gmp

    if not hasattr(gmp, "__distribution__"):
        sys.exit(f"gmp: {not_ours(gmp)}")
    from gmp.cli.main import main as command

    command()


def not_ours(package: ModuleType) -> str:
    """What is wrong, and what to do."""
    where = package.__file__ or package.__path__[0]
    return (
        f"{where} is not gevent-mp's: the project named gmp on PyPI has the same folder."
        " Remove that one (pip uninstall gmp), then install gevent-mp again (pip install --force-reinstall)"
    )
