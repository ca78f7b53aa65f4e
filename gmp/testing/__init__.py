"""For tests, gmp's own and yours: a network of nodes in one process, and a TCP proxy that misbehaves on demand.

They use the public API and gevent only, need no test framework, and work in patched and unpatched programs.
"""

from gmp.testing.local_network import LeakError, LocalNetwork
from gmp.testing.proxy import FaultProxy

__all__ = ["FaultProxy", "LeakError", "LocalNetwork"]
