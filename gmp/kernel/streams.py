"""`Node.open_stream`: who dials whom for a stream, and which function gets it (PROTOCOL.md section 14).

The opener announces the stream by ``_expect`` under a random ID: a function and its arguments, and a port of its own that is
killed when it comes to nothing. The other node looks the function up, waits for the stream, and reports to that port that
it is ready; then the opener dials it. One that cannot be dialled is asked by ``_connect`` to dial the opener. Either way,
the function runs on the other node, as ``function(*args, stream)`` in a greenlet of its own.

Perl 2.02 cannot do it (its side always times out), and two nodes that both do not listen have no way: both is said at once.

race: the time is up, or the other node is lost, when the stream has just come: it has no taker any more, so it is closed.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event

from gmp.config import Address, parse_seed
from gmp.errors import GmpError, NotAllowed, PortDied, WaitTimeout
from gmp.kernel.spawning import function_name, resolve
from gmp.later import import_now
from gmp.mesh.addresses import MOST_DIALLED
from gmp.net.streams import Expected, Stream
from gmp.outside import chance, clock
from gmp.ports.port import Port
from gmp.wire.requests import CONNECT, EXPECT, SND

if TYPE_CHECKING:
    from gmp.kernel.host import Host
    from gmp.net.peer import Peer

log = logging.getLogger("gmp")
FAILED = "AnyEvent::MP::DataConn"  #: the tag of the reason when it comes to nothing
READY = "ready"
FOR_STREAMS = "gevent.lock"  # one that comes is made in a callback of the event loop
LONGEST_WAIT = 3600.0  # seconds that another node may let us wait for its stream
__all__ = ["CONNECT", "EXPECT", "Stream", "Streams"]
_CAME = object()  # a tag that no other node can send


class Streams:
    """The streams that one node opens, and those that others open here."""

    def __init__(self, host: Host, resolve_address: Callable[[Address], list[Address]]) -> None:
        self._host = host
        self._resolve = resolve_address

    # ---- the opener

    def open(self, node_id: str, function: str | Callable[..., Any], args: tuple[Any, ...], timeout: float | None) -> Stream:
        """`Node.open_stream`."""
        import_now(FOR_STREAMS)
        host, name = self._host, function_name(function)
        if node_id == host.id:
            return self._open_here(name, args)
        limit = host.settings.connect_timeout + host.settings.handshake_timeout if timeout is None else timeout
        stream_id, port = chance.token_hex(16), host.ports.make()
        watch = host.monitor(node_id, port)
        try:
            with gevent.Timeout(limit, WaitTimeout(f"no stream to {name!r} on {node_id} within {limit:g} s")):
                self._check_possible(node_id)
                host.send(node_id, EXPECT, stream_id, port, limit, name, *args)
                port.receive(READY)
                return self._connect(node_id, stream_id, port, clock.monotonic() + limit)
        except PortDied as error:
            if error.reason[:1] == (FAILED,):
                raise NotAllowed(f"node {node_id} refused a stream: {error.reason[1:]}") from None
            raise PortDied(node_id, error.reason) from None
        finally:
            watch.cancel()
            port.kill()
            host.network.expected_streams.forget(stream_id)

    def _open_here(self, name: str, args: tuple[Any, ...]) -> Stream:
        host = self._host
        function = resolve(name, ("*",), for_spawn=False)
        ours, theirs = host.network.stream_pair()
        host.defer(_serve, function, args, [theirs])
        return ours

    def _check_possible(self, node_id: str) -> None:
        """Connect to the node. *Raises:* `GmpError` when there can be no stream, before anything is waited for."""
        host = self._host
        if not host.network.binds and not host.network.peer(node_id).dialled and self._known_addresses(node_id) == []:
            raise GmpError(f"neither this node nor {node_id} listens: there can be no stream between them")
        if not host.is_up(node_id):
            host.call(node_id, (SND,), None)
        if not host.network.peer(node_id).admits(EXPECT):
            raise GmpError(f"{node_id} is no gmp node: AnyEvent::MP 2.02 cannot take part in a stream")

    def _connect(self, node_id: str, stream_id: str, port: Port, deadline: float) -> Stream:
        """The other node waits: dial it, or let it dial."""
        host, problem = self._host, "it listens nowhere"
        try:
            return self._dial(node_id, stream_id)
        except WaitTimeout:
            raise
        except (GmpError, OSError) as error:
            problem = str(error)
        if not host.network.binds:
            raise GmpError(f"no stream to {node_id}: {problem}; and this node does not listen")

        def take(stream: Stream) -> None:
            if port.alive:
                port.put((_CAME, stream))
            else:
                stream.abort()

        host.network.expected_streams.expect(stream_id, Expected(node_id, deadline, take), clock.monotonic())
        host.send(node_id, CONNECT, stream_id, host.id)
        stream: Stream = port.receive(_CAME)[0]
        return stream

    def _dial(self, node_id: str, stream_id: str) -> Stream:
        """Dial each address of a node until one answers. *Raises:* `GmpError` or `OSError`, of the last one."""
        problem: Exception = GmpError("it listens nowhere")
        for address in self._addresses(node_id):
            try:
                return self._host.network.dial_stream(address, node_id, stream_id)
            except WaitTimeout:
                raise
            except (GmpError, OSError) as error:
                problem = error
        raise problem

    def _addresses(self, node_id: str) -> Iterator[Address]:
        """Where to dial a node: where it was reached before, else what the directory says."""
        dialled = self._host.network.peer(node_id).dialled
        for text in [dialled] if dialled else (self._known_addresses(node_id) or [])[:MOST_DIALLED]:
            yield from self._resolve(parse_seed(text))

    def _known_addresses(self, node_id: str) -> list[str] | None:
        answer: gevent.event.AsyncResult[list[str] | None] = gevent.event.AsyncResult()
        self._host.mesh.backbone.find(node_id, answer.set)
        return answer.get()

    # ---- the other node

    def expect(
        self, peer: Peer | None, stream_id: Any, port_id: Any, timeout: Any, function: Any, *args: Any
    ) -> None:
        """``_expect``: another node is about to open a stream here."""
        if peer is None or not isinstance(stream_id, str) or not 0 < len(stream_id) <= 255:
            raise NotAllowed(f"a stream of the ID {stream_id!r:.80} cannot be expected")
        wait = float(timeout) if isinstance(timeout, int | float) and 0 < timeout < LONGEST_WAIT else LONGEST_WAIT
        self._defer(peer.node_id, self._prepare, peer, stream_id, port_id, wait, function, args)

    def _prepare(
        self, peer: Peer, stream_id: str, port_id: str, wait: float, function: Any, args: tuple[Any, ...]
    ) -> None:
        import_now(FOR_STREAMS)
        host = self._host
        try:
            found = resolve(function, host.settings.allow, for_spawn=False)
        except NotAllowed as error:
            host.kill(port_id, FAILED, str(error))
            return
        now = clock.monotonic()

        def take(stream: Stream) -> None:
            self._defer(peer.node_id, _serve, found, args, [stream])

        expected = Expected(peer.node_id, now + wait, take, port_id)
        host.network.expected_streams.expect(stream_id, expected, now)
        if peer.is_gmp:  # to Perl it would be a message without a handler
            host.send_soon(port_id, READY)

    def connect(self, peer: Peer | None, stream_id: Any) -> None:
        """``_connect``: the other node cannot dial us; dial it."""
        expected = None
        if peer is not None and isinstance(stream_id, str):
            expected = self._host.network.expected_streams.take(stream_id, peer.node_id, clock.monotonic())
        if expected is None:
            raise NotAllowed(f"no stream {stream_id!r:.80} is expected")
        self._defer(expected.node_id, self._dial_back, expected, stream_id)

    def _defer(self, asker: str, function: Callable[..., Any], *args: Any) -> None:
        self._host.defer(self._host.peer_log.run, log, asker, function, *args)

    def _dial_back(self, expected: Expected, stream_id: str) -> None:
        try:
            stream = self._dial(expected.node_id, stream_id)
        except (GmpError, OSError) as error:
            self._host.kill(expected.port_id, FAILED, f"cannot dial back: {error}")
        else:
            expected.take(stream)


def _serve(function: Callable[..., Any], args: tuple[Any, ...], box: list[Stream]) -> None:
    """Run the function that the stream in `box` is for: who runs this must not refer to it.

    What it lets go of when it returns is complete. It may have passed the stream on: then that has to be closed.
    """
    stream: Stream | None = box.pop()
    assert stream is not None
    try:
        function(*args, stream)
    except BaseException:
        stream.abort()
        raise
    kept = weakref.ref(stream)
    stream.ends_when_dropped = True
    stream = None  # which closes it
    stream = kept()
    if stream is not None:
        stream.ends_when_dropped = False
