"""For tests, gmp's own and yours: a network of nodes in one process, a TCP proxy that misbehaves on demand, the messages
of a port that died once more, and services with given answers.

They use the public API and gevent only, need no test framework, and work in patched and unpatched programs.
"""

from gmp import whose as _whose  # noqa: F401  # first: another project's gmp in our place is told by it
from gmp.testing.local_network import LeakError, LocalNetwork
from gmp.testing.proxy import FaultProxy
from gmp.testing.replay import replay
from gmp.testing.services import RecordingService, StubService

__all__ = ["FaultProxy", "LeakError", "LocalNetwork", "RecordingService", "StubService", "replay"]
