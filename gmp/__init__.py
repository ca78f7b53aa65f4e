"""gmp: Erlang-style message passing for Python on gevent.

Greenlets with mailboxes (*ports*), on many processes and hosts (*nodes*), that find each other through *seeds*, watch
each other with *monitors*, and read like blocking code.
"""

__distribution__ = "gevent-mp"  # whose package this is: `gmp` on PyPI is another project, with the same folder

from gmp.characters import Characters
from gmp.errors import (
    AuthenticationError,
    CallRefused,
    CallTimeout,
    ConfigError,
    GmpError,
    MessageError,
    NotAllowed,
    PortDied,
    ProtocolError,
    ReceiveTimeout,
    RemoteError,
    WaitTimeout,
)
from gmp.exposing import expose, remote
from gmp.face import (
    after,
    call,
    configure,
    family,
    flush,
    group,
    kill,
    link,
    monitor,
    node,
    node_of,
    port,
    run_in_thread,
    send,
    serve_forever,
    spawn,
    supervise,
)
from gmp.kernel.node import Node
from gmp.kernel.node_thread import NodeThread
from gmp.kernel.spawning import spawnable
from gmp.kernel.streams import Stream
from gmp.kernel.supervision import Child, Supervisor
from gmp.mesh.groups import Family, Group
from gmp.objects.context import deadline
from gmp.objects.future import Future
from gmp.objects.marks import method, stream
from gmp.objects.reader import RemoteStream
from gmp.objects.remote import Remote
from gmp.objects.retry import Retry
from gmp.peerlog import bound_lines
from gmp.ports.history import Death
from gmp.ports.monitors import Monitor
from gmp.ports.port import Port, current_port
from gmp.ports.timers import Timer
from gmp.version import VERSION

bound_lines()

__version__ = VERSION
__all__ = [
    "AuthenticationError",
    "CallRefused",
    "CallTimeout",
    "Characters",
    "Child",
    "ConfigError",
    "Death",
    "Family",
    "Future",
    "GmpError",
    "Group",
    "MessageError",
    "Monitor",
    "Node",
    "NodeThread",
    "NotAllowed",
    "Port",
    "PortDied",
    "ProtocolError",
    "ReceiveTimeout",
    "Remote",
    "RemoteError",
    "RemoteStream",
    "Retry",
    "Stream",
    "Supervisor",
    "Timer",
    "WaitTimeout",
    "after",
    "call",
    "configure",
    "current_port",
    "deadline",
    "expose",
    "family",
    "flush",
    "group",
    "kill",
    "link",
    "method",
    "monitor",
    "node",
    "node_of",
    "port",
    "remote",
    "run_in_thread",
    "send",
    "serve_forever",
    "spawn",
    "spawnable",
    "stream",
    "supervise",
]
