"""A small AnyEvent::MP 2.02 node, written from the protocol's description alone: plain sockets, the standard library's json
and ssl, cbor2, and nothing of gmp.

It does as Perl does: both lines of the greeting at once, its authentication line as soon as it has the other's greeting,
every string without wide characters as octets in cbor, no true and false but 1 and 0, names of a random prefix and ``b``,
``c``, …, silence about every error but closing. It plays both roles: `PerlPeer.dial`, and `PerlListener` for being dialled.

Its strings are Perl's: rows of characters. Octets are given and come as characters up to 255, each one of them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import string
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import cbor2
import gevent
import gevent.event
import gevent.socket
import gevent.ssl

DIGITS = string.digits + string.ascii_letters
Handler = Callable[..., None]


class PerlPeer:
    """One node with one connection. `framing`: json or cbor, for both directions. `cert`: a PEM text, turns TLS on.
    `keys` are more keys of the greeting.

    `functions` are what the other side may spawn or call here, ``{"Pkg::name": function}``; a spawned one is called as
    ``function(peer, port_name, *args)``, another as ``function(*args)``. `log` has every message as it came, until
    `expect` takes it, and `seen` all that ever came. `requests` are more that are answered, `answer` sends to a port ID.
    `check` is called with the other side's ID when that has come; what it raises ends the handshake.
    """

    def __init__(
        self,
        sock: Any,
        node_id: str = "PerlA",
        *,
        secret: str | None = "geheim",
        framing: str = "json",
        cert: str | None = None,
        keys: tuple[str, ...] = (),
        start: bool = True,
        check: Callable[[str], object] = bool,
    ) -> None:
        self.keys = keys
        self.node_id, self.secret, self.framing = node_id, secret, framing
        self.functions: dict[str, Handler] = {}
        self.requests: dict[str, Handler] = {}
        self.answer: Handler = self._answer
        self.ports: dict[str, Handler | None] = {}
        self.log: list[Any] = []
        self.seen: list[Any] = []
        self.closed = gevent.event.Event()
        self.other = ""
        self._watchers: dict[str, list[Handler]] = {}
        self._watched: set[str] = set()
        self._runiq = "".join(secrets.choice(DIGITS) for _ in range(9)) + secrets.choice(string.ascii_uppercase)
        self._count = 0
        self._changed = gevent.event.Event()
        self._sock = sock
        try:
            self._handshake(cert, check)
        except BaseException:
            self._sock.close()
            raise
        self._reader = gevent.Greenlet(self._read)
        if start:
            self._reader.start()

    def start(self) -> None:
        """Read, if that was left for later."""
        self._reader.start()

    @classmethod
    def dial(cls, bind: str, node_id: str = "PerlA", **options: Any) -> PerlPeer:
        """Connect to a node that listens at ``host:port``."""
        host, _, port = bind.rpartition(":")
        return cls(gevent.socket.create_connection((host, int(port)), timeout=20), node_id, **options)

    # ---- the handshake

    def _handshake(self, cert: str | None, check: Callable[[str], object]) -> None:
        host, port = self._sock.getpeername()[:2]
        keys = ["gproto=1", "provider=AE-2.02", "mproto=1", f"peeraddr={host}:{port}"]
        keys += [*self.keys, *(["tls=1.0"] if cert else [])]
        methods = (["tls_sha3_512"] if cert else []) + ["hmac_sha3_512"]
        accepted = ",".join([*methods, "tls_anon", "cleartext"])
        mine = [f"aemp;1;{self.node_id};{accepted};{self.framing},storable;{';'.join(keys)}", secrets.token_urlsafe(66)]
        self._sock.settimeout(20)
        self._sock.sendall("".join(f"{line}\n" for line in mine).encode("latin-1"))
        theirs = [self._line()]
        fields = theirs[0].split(";")
        self.other = fields[2]
        check(self.other)
        theirs.append(self._line())
        self.greeting = dict(part.partition("=")[::2] for part in fields[5:])
        secure = cert is not None and self.greeting.get("tls", "").split(".")[0] == "1"
        if secure:
            assert cert is not None
            self._start_tls(cert, client=mine[1].encode() < theirs[1].encode())
        usable = [method for method in methods if secure or not method.startswith("tls_")]
        method = next(method for method in fields[3].split(",") if method in usable)
        framing = next(framing for framing in fields[4].split(",") if framing == self.framing)
        self._sock.sendall(f"{method};{self._digest(method, mine, theirs)};{framing}\n".encode())
        self.auth = self._line().split(";")
        assert self.auth[1] == self._digest(self.auth[0], theirs, mine), "the other side's authentication is wrong"
        assert self.auth[2] == self.framing
        self._sock.settimeout(None)

    def _digest(self, method: str, sender: list[str], receiver: list[str]) -> str:
        text = "".join(f"{line}\n" for line in (*sender, *receiver)).encode("latin-1")
        if method == "hmac_sha3_512":
            assert self.secret is not None
            return hmac.new(self.secret.encode(), text, hashlib.sha3_512).hexdigest()
        assert method == "tls_sha3_512"
        return hashlib.sha3_512(text).hexdigest()

    def _line(self) -> str:
        """One line, and not one octet more: TLS may follow."""
        line = b""
        while not line.endswith(b"\n"):
            octet = self._sock.recv(1)
            if not octet:
                raise ConnectionError(f"closed in the handshake, after {line!r}")
            line += octet
        return line[:-1].decode("latin-1")

    def _start_tls(self, cert: str, *, client: bool) -> None:
        side = gevent.ssl.PROTOCOL_TLS_CLIENT if client else gevent.ssl.PROTOCOL_TLS_SERVER
        context = gevent.ssl.SSLContext(side)
        context.check_hostname = False
        context.verify_mode = gevent.ssl.CERT_REQUIRED
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(cert)
            file.flush()
            context.load_cert_chain(file.name)
            context.load_verify_locations(file.name)
        self._sock = context.wrap_socket(self._sock, server_side=not client)

    # ---- messages

    def send(self, *message: Any) -> None:
        """A message as it goes over the wire: the local name of the port first."""
        self.send_octets(encode(self.framing, list(message)))

    def send_octets(self, data: bytes) -> None:
        """Anything."""
        self._sock.sendall(data)

    def snd(self, port_id: str, *message: Any) -> None:
        """Send to a port of the other node, by its full ID."""
        node_id, _, name = port_id.partition("#")
        assert node_id == self.other
        self.send(name, *message)

    def request(self, name: str, *args: Any) -> None:
        """Ask the other side's node port."""
        self.send("", name, *args)

    def expect(self, *prefix: Any, timeout: float = 20.0) -> list[Any]:
        """Take the first message of the log that begins so; return the rest of it."""
        with gevent.Timeout(timeout, AssertionError(f"nothing like {prefix} came, but {self.log}")):
            while True:
                for message in self.log:
                    if message[: len(prefix)] == list(prefix):
                        self.log.remove(message)
                        return message[len(prefix) :]
                self._changed.clear()
                self._changed.wait()

    def barrier(self) -> None:
        """What was sent before has been looked at by the other side, and what it said before has come."""
        name = self.new_name()
        self.request("snd", f"{self.node_id}#{name}")
        self.expect(name)

    def close(self) -> None:
        """Vanish."""
        self._reader.kill()
        self._sock.close()
        self.closed.set()

    def __enter__(self) -> PerlPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what a Perl program would do

    def new_name(self) -> str:
        """A name for a port, here or (spawned) there."""
        self._count += 1
        letters = "bcdefghijklmnopqrstuvwxyz"
        name, number = "", self._count - 1
        while True:
            number, digit = divmod(number, len(letters))
            name = letters[digit] + name
            if not number:
                return self._runiq + name

    def port(self, handler: Handler | None = None) -> str:
        """A new port; returns its full ID. Without a handler its messages are only in the log."""
        name = self.new_name()
        self.ports[name] = handler
        return f"{self.node_id}#{name}"

    def kil(self, port_id: str, *reason: Any) -> None:
        """Kill a port, here or there."""
        node_id, _, name = port_id.partition("#")
        if node_id != self.node_id:
            self.request("kil1", name, *reason)
        elif self.ports.pop(name, self) is not self and name in self._watched:
            self._watched.discard(name)
            self.request("kil0", name, *reason)

    def mon(self, port_id: str) -> gevent.event.AsyncResult[list[Any]]:
        """Monitor a port there; the result is its reason."""
        result: gevent.event.AsyncResult[list[Any]] = gevent.event.AsyncResult()
        name = port_id.partition("#")[2]
        watchers = self._watchers.setdefault(name, [])
        watchers.append(lambda *reason: result.set(list(reason)))
        if len(watchers) == 1:
            self.request("mon1", name)
        return result

    def unmon(self, port_id: str) -> None:
        """End all monitors of a port there."""
        name = port_id.partition("#")[2]
        if self._watchers.pop(name, None):
            self.request("mon0", name)

    def spawn(self, function: str, *args: Any) -> str:
        """Start a function there as a port; returns that port's ID at once."""
        name = self.new_name()
        self.request("AnyEvent::MP::_spawn", name, function, *args)
        return f"{self.other}#{name}"

    def call(self, port_id: str, *message: Any) -> list[Any]:
        """Send with a temporary port's ID behind it, and wait for what it gets."""
        reply = self.port()
        self.snd(port_id, *message, reply)
        name = reply.partition("#")[2]
        answer = self.expect(name)
        del self.ports[name]
        return answer

    # ---- what comes in

    def _read(self) -> None:
        decode = {"json": decode_json, "cbor": decode_cbor}[self.framing]
        rest = b""
        try:
            while data := self._sock.recv(65536):
                messages, rest = decode(rest + data)
                for message in messages:
                    self.log.append(message)
                    self.seen.append(message)
                    self._changed.set()
                    self._handle(message)
        except OSError:
            pass  # the end of the connection, however it came
        self._sock.close()  # as AnyEvent::Handle does at the end of what it reads
        self.closed.set()

    def _handle(self, message: list[Any]) -> None:
        name = (message[0] if message else "") or ""
        if name:
            handler = self.ports.get(name)
            if handler is not None:
                handler(*message[1:])
        elif message[1:]:
            self._handle_request(message[1], *message[2:])

    def _handle_request(self, name: str, *args: Any) -> None:
        answers: dict[str, Handler] = {
            "mon1": self._mon1,
            "mon0": lambda port=None, *_: self._watched.discard(port or ""),
            "kil0": self._kil0,
            "kil1": lambda port, *reason: self.kil(f"{self.node_id}#{port}", *reason),
            "snd": lambda *message: self.answer(*message),
            "time": lambda *reply: self.answer(*reply, time.time()),
            "can": lambda what, *reply: self.answer(*reply, "1" if what in answers else ""),
            "eval": lambda code, *reply: reply and self.answer(*reply, "remote execution not allowed"),
            "devnull": lambda *_: None,
            "AnyEvent::MP::_spawn": self._spawn,
            "g_mon1": lambda family, *_: self.request("g_chg1", family, None),
            "g_find": lambda node_id, *_: self.request("g_found", node_id, None),
            **self.requests,
        }
        if name in answers:
            answers[name](*args)
        elif name in self.functions:
            self.functions[name](*args)

    def _answer(self, port_id: str = "", *message: Any) -> None:
        node_id, _, name = port_id.partition("#")
        if node_id == self.other:
            self.send(name, *message)
        elif node_id == self.node_id:
            self._handle([name, *message])

    def _mon1(self, name: str, *_: Any) -> None:
        if name in self.ports:
            self._watched.add(name)
        else:
            port_id = f"{self.node_id}#{name}"
            self.request("kil0", name, "no_such_port", "cannot monitor nonexistent port", port_id)

    def _kil0(self, name: str, *reason: Any) -> None:
        for watcher in self._watchers.pop(name, []):
            watcher(*reason)

    def _spawn(self, name: str, function: str, *args: Any) -> None:
        self.ports[name] = None
        self.functions[function](self, name, *args)


class PerlListener:
    """A Perl node that waits to be dialled, on loopback."""

    def __init__(self, node_id: str = "PerlA", **options: Any) -> None:
        self._listener = gevent.socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._node_id, self._options = node_id, options
        self.bind = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def accept(self, timeout: float = 20.0) -> PerlPeer:
        """The next connection, with its handshake done."""
        with gevent.Timeout(timeout, AssertionError("nobody dialled")):
            sock, _ = self._listener.accept()
            return PerlPeer(sock, self._node_id, **self._options)

    def __enter__(self) -> PerlListener:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def encode(framing: str, message: list[Any]) -> bytes:
    """As Perl writes it."""
    if framing == "json":
        return json.dumps(_perlish(message), ensure_ascii=False, separators=(",", ":")).encode()
    return cbor2.dumps(octets(_perlish(message)))


def _perlish(value: Any) -> Any:
    """Without true and false, which Perl has not."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list | tuple):
        return [_perlish(item) for item in value]
    return {key: _perlish(item) for key, item in value.items()} if isinstance(value, dict) else value


def octets(value: Any) -> Any:
    """Every string without wide characters as octets."""
    if isinstance(value, str):
        return value.encode("latin-1") if value.isascii() or max(value) <= "\xff" else value
    if isinstance(value, list):
        return [octets(item) for item in value]
    return {octets(key): octets(item) for key, item in value.items()} if isinstance(value, dict) else value


def characters(value: Any) -> Any:
    """The one kind of string that Perl has. cbor2 6.0.0 makes tuples and frozen dicts within maps."""
    assert type(value) is not int or -(2**63) <= value < 2**64, f"{value} would be an object in Perl, or 0"
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list | tuple):
        return [characters(item) for item in value]
    return {characters(key): characters(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def decode_json(data: bytes) -> tuple[list[Any], bytes]:
    """The arrays at the beginning of `data`, and what is left of it."""
    messages: list[Any] = []
    try:
        while data := data.lstrip():
            message, end = json.JSONDecoder(parse_int=_integer).raw_decode(data.decode(errors="ignore"))
            messages.append(message)
            data = data[len(data.decode(errors="ignore")[:end].encode()) :]
    except ValueError:
        pass  # not all of it is here yet
    return messages, data


def _integer(digits: str) -> int | str:
    """Perl's integers have 64 bits; its json keeps others as strings."""
    number = int(digits)
    return number if -(2**63) < number < 2**64 else digits


def decode_cbor(data: bytes) -> tuple[list[Any], bytes]:
    """The items at the beginning of `data`, and what is left of it."""
    messages: list[Any] = []
    start = 0
    try:
        while start < len(data):
            end = _end(data, start)
            messages.append(characters(cbor2.loads(data[start:end])))
            start = end
    except IndexError:
        pass  # not all of it is here yet
    return messages, data[start:]


def _end(data: bytes, start: int) -> int:
    """Where the item that begins at `start` ends; what cbor2 makes of a stream differs from version to version."""
    major, info = divmod(data[start], 32)
    width = 1 << info - 24 if info > 23 else 0
    end = start + 1 + width
    count = int.from_bytes(data[start + 1 : end], "big") if width else info
    if major in (2, 3):
        end += count
    for _ in range({4: count, 5: 2 * count, 6: 1}.get(major, 0)):
        end = _end(data, end)
    if end > len(data):
        raise IndexError
    return end
