"""Modules that are imported when they are first used: one table of them.

A program that makes no node needs none of these, and a plain node few. A file that uses one says so twice, once for type
checkers and the tests of the layers, which read it as an import like any other, and once for the program::

    if TYPE_CHECKING:
        import tomllib
    else:
        tomllib = later("tomllib")

What is first used in a callback of the event loop is not left to that: it is imported when what may come to use it begins,
such as a node's first connection (`import_now`). There an import would hold everything up, and where another thread is at
the same import it could not wait for that.

Importing is Python's own: of two threads that come at once one waits for the other; what an interrupt or an error strikes
is not kept half made, so that the next use imports it anew; and gmp's own modules are found though the working directory
has changed.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

#: by module: what uses it first
LATER = {
    "concurrent.futures": "a node in a thread of its own",
    "decimal": "a number of that type in a message",
    "difflib": "the name of a setting that there is not",
    "gevent": "a command that talks to a network",
    "gevent.lock": "a byte stream",
    "gmp.config": "a node",
    "gmp.kernel.core": "a node: what does its work, and with it the layers of the network",
    "gmp.kernel.loop_thread": "a node in a thread of its own",
    "gmp.kernel.tracing": "a node that traces",
    "gmp.lan.discovery": "a node on a LAN",
    "gmp.lan.pairing": "the command for it",
    "gmp.net.tls": "a node with a certificate",
    "gmp.objects.limits": "a service",
    "gmp.objects.methods": "a service; a prompt that shows one of another node",
    "gmp.objects.rights": "a service that not all may call",
    "gmp.objects.service": "a service",
    "gmp.objects.typed": "a service, or its caller, with checked types",
    "gmp.ports.tracing": "a node that traces",
    "gmp.wire.cbor_framing": "a first connection, if cbor2 is installed; an entry that is more than texts",
    "gmp.wire.json_framing": "a first connection; an entry that is more than texts",
    "greenlet": "a command that runs",
    "hashlib": "a node that listens, or dials",
    "hmac": "a first connection",
    "inspect": "a prompt that shows a service's methods",
    "ipaddress": "a node that listens, or dials",
    "json": "services in a text",
    "tomllib": "a configuration file",
    "urllib.parse": "a node that is refused, or refuses another",
    "uuid": "a UUID in a message",
}


class _Later:
    """Stands in the place of a module."""

    __slots__ = ("_module", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._module: ModuleType | None = None

    def __getattr__(self, attribute: str) -> Any:
        if self._module is None:
            self._module = import_module(self._name)  # complete: one that another thread imports now is waited for
        return getattr(self._module, attribute)

    def __repr__(self) -> str:
        return f"<module {self._name!r}, imported when it is used>"


def later(name: str) -> Any:
    """Return what stands for the module of that name, and imports it when something of it is first asked for."""
    assert name in LATER
    return _Later(name)


def import_now(*names: str) -> None:
    """Import these modules, as what is done next may need them where an import must not happen."""
    for name in names:
        assert name in LATER
        import_module(name)
