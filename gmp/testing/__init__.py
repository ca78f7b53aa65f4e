"""For tests, gmp's own and yours: a network of nodes in one process, one in virtual time, a TCP proxy that misbehaves on
demand, the messages of a port that died once more, and services with given answers.

They use the public API and gevent only, need no test framework, and work in patched and unpatched programs.
"""

from gmp import whose as _whose  # noqa: F401  # first: another project's gmp in our place is told by it
from gmp.testing.local_network import LeakError, LocalNetwork
from gmp.testing.proxy import FaultProxy
from gmp.testing.replay import replay
from gmp.testing.services import RecordingService, StubService
from gmp.testing.shrinking import Shrunk, shrink
from gmp.testing.simulated.errors import SimulationError
from gmp.testing.simulation import Simulation

__all__ = [
    "FaultProxy",
    "LeakError",
    "LocalNetwork",
    "RecordingService",
    "Shrunk",
    "Simulation",
    "SimulationError",
    "StubService",
    "replay",
    "shrink",
]
