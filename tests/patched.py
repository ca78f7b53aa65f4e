"""The suite in a patched program, as many users have: ``python -m tests.patched [-n PROCESSES] [pytest arguments]``.

pytest-xdist's workers read what they are to do natively, which would stop the event loop of a patched program. So this
starts its processes by itself, and each takes a share of the tests.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any


class Share:
    """A plugin of pytest that leaves every `count`-th test."""

    def __init__(self, number: int, count: int) -> None:
        self._number, self._count = number, count

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        others = [item for index, item in enumerate(items) if index % self._count != self._number]
        config.hook.pytest_deselected(items=others)
        items[:] = items[self._number :: self._count]


def main() -> int:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("-n", type=int, default=1)
    options.add_argument("--share", type=int)
    given, rest = options.parse_known_args()
    if given.n > 1 and given.share is None:
        command = [sys.executable, "-m", "tests.patched", "-n", str(given.n), *rest]
        running = [subprocess.Popen([*command, "--share", str(number)]) for number in range(given.n)]
        return max(process.wait() for process in running)

    from gevent import monkey

    monkey.patch_all()

    import pytest

    # as gmp has a plugin, pytest would rewrite all that is beside it; this file is imported before pytest is
    known = ["-W", "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*known, *rest], plugins=[Share(given.share or 0, given.n)]))


if __name__ == "__main__":  # pytest looks for doctests here, and must not patch by that
    sys.exit(main())
