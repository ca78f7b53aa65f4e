"""The suite in a patched program, as many users have: ``python -m tests.patched [pytest arguments]``."""

import sys

if __name__ == "__main__":  # pytest looks for doctests here, and must not patch by that
    from gevent import monkey

    monkey.patch_all()

    import pytest

    sys.exit(pytest.main(sys.argv[1:]))
