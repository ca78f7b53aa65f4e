"""Trace context that travels with messages between gmp nodes. Costs nothing until `Node.trace_messages` switches it on.

Sending: `TracingRoutes` take the place of the node's routes. They ask the tracer for a carrier and put it beside the
message: in a `TracedMessage` for a port of this node, in a request ``gmp.traced CARRIER NAME message…`` to a gmp node
that is up. Towards a Perl node, and before the connection is there, the message goes without (what is queued then may
have to go to a Perl node).

Receiving: a node that does not trace itself delivers such a message like any other.

race: order. Requests to the node port keep their place among the messages of the connection, so a traced message overtakes
no other one to the same port, nor is overtaken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmp.ids import split_port_id
from gmp.kernel.routes import Routes
from gmp.net.peer import Peer
from gmp.ports.port import Port
from gmp.ports.table import Ports
from gmp.ports.tracing import Carrier, Tracer, TracingPort, with_carrier
from gmp.wire.requests import TRACED


class TracingRoutes(Routes):
    """Routes of a node that traces."""

    def __init__(
        self,
        ports: Ports,
        peer: Callable[[str], Peer],
        node_port: Callable[[None, tuple[Any, ...]], None],
        tracer: Tracer,
    ) -> None:
        super().__init__(ports, peer, node_port)
        self._tracer = tracer

    def send(self, dest: Any, message: tuple[Any, ...]) -> None:
        """As `Routes.send`."""
        if not self._hold._is_owned():
            self._ports.check()
        taken_by = self.send_soon(dest, message)
        if taken_by is not None and taken_by.congested:
            taken_by.wait_room()

    def send_soon(self, dest: Any, message: tuple[Any, ...]) -> Peer | None:
        """As `Routes.send_soon`."""
        node_id, name = split_port_id(dest)
        carrier = self._tracer.sending(str(dest), message) if name else None
        if not carrier:
            return super().send_soon(dest, message)
        if node_id == self._ports.node_id:
            return super().send_soon(dest, with_carrier(message, carrier))
        peer = self._peer(node_id)
        if not (peer.is_up and peer.admits(TRACED)):
            return super().send_soon(dest, message)
        peer.send("", (TRACED, carrier, name, *message))
        return peer


def make_port_class(tracer: Tracer) -> type[Port]:
    """The class of the ports that are made from now on; they share the tracer."""

    class NodePort(TracingPort):
        __slots__ = ()

    NodePort.tracer = tracer
    return NodePort


def restored(carrier: Any, message: tuple[Any, ...]) -> tuple[Any, ...]:
    """A message of the request ``gmp.traced``, with its carrier if that is one."""
    known = _carrier(carrier)
    return message if known is None else with_carrier(message, known)


def _carrier(value: Any) -> Carrier | None:
    """What a peer sent, when it is a table of text."""
    if isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair):
        return value
    return None
