"""The suite in a patched program, as many users have: ``python -m tests.patched [pytest arguments]``."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

import pytest  # noqa: E402

if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:]))
