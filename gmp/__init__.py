"""gmp: Erlang-style message passing for Python on gevent.

Greenlets with mailboxes (*ports*), on many processes and hosts (*nodes*), that find each other through *seeds*, watch
each other with *monitors*, and read like blocking code.
"""

__distribution__ = "gevent-mp"  # whose package this is: `gmp` on PyPI is another project, with the same folder

import sys
from importlib import reload
from threading import RLock
from typing import TYPE_CHECKING

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
from gmp.version import VERSION

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

if TYPE_CHECKING or "gmp_command" not in sys.modules or "__getattr__" in globals():
    from gmp.characters import Characters
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
    from gmp.kernel.node import Node, Stream
    from gmp.kernel.node import config as config  # docstrings name `gmp.config.Settings`
    from gmp.kernel.node_thread import NodeThread
    from gmp.kernel.spawning import spawnable
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

    bound_lines()
    globals().pop("__getattr__", None)  # with it each use of a name is slower
else:
    # In the command `gmp` all of this is imported when one of the names is first used: help and completion use none.
    _importing = RLock()

    def __getattr__(name: str) -> object:
        if name in __all__:
            with _importing:  # race: of two threads that come at once, one finds everything there
                if name not in globals():
                    reload(sys.modules["gmp"])
            return globals()[name]
        raise AttributeError(f"module 'gmp' has no attribute {name!r}")
