"""TLS as a transform of bytes between socket and session, through `ssl.MemoryBIO`: one read path, one write path.

Both sides present a certificate and verify the other's; nothing else is asked of it unless `cert_names` is set. One PEM text
holds key and certificate, and the certificates in it are the ones that are trusted too: either all nodes share one
self-signed certificate, or each has its own and the text ends with the CA's. Which side is the TLS client was decided
by the nonces, so a context of each kind is kept.

States: *handshake* (`ready` is False) → *ready* → `ended`, when the other side has closed its direction properly.

Behaviour of OpenSSL to know: a read returns one record of at most 16 KiB though more is there, and no event of the socket
reports the rest, so read until nothing is left. A buffer without room would look like the end. Tickets
and renegotiation would need answers at any time: both are off. A TLS 1.3 client has finished before the server has seen
its certificate, so *ready* does not mean that the other side has accepted us: its first decrypted bytes do.
"""

from __future__ import annotations

import os
import re
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, NoReturn

from gmp.config import SEED_MARK
from gmp.errors import AuthenticationError, ConfigError, ProtocolError
from gmp.net.records import RECORD

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_ALERT = re.compile("(?:SSLV3|TLSV1|TLSV13)_ALERT_(.+)")  # what OpenSSL calls one that the other side has sent
_HAS_EXPIRED = 10  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED
EXPIRED = "it has expired"
MOST_FLIGHTS = 8  # of a handshake; two to four are enough
_NAMES = ("DNS", "URI")


class Contexts(NamedTuple):
    """The contexts of a node, one for each side that a connection may turn out to be."""

    client: ssl.SSLContext
    server: ssl.SSLContext

    def begin(self, role: Literal["client", "server"], scratch: bytearray) -> Tls:
        """Return TLS for one connection, as yet before its handshake."""
        return Tls(self, role, scratch)


def make_contexts(pem: str) -> Contexts:
    """Make the contexts for a PEM text with key, certificate, and whatever else is trusted. *Raises:* `ConfigError`."""
    trusted = "\n".join(_CERTIFICATE.findall(pem))
    if not trusted or "PRIVATE KEY-----" not in pem:
        raise ConfigError("cert: expected a PEM text, or the path of one, with a private key and a certificate")
    client, server = (ssl.SSLContext(side) for side in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER))
    server.num_tickets = 0
    try:
        with _readable(pem) as path:
            for context in (client, server):
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
                context.check_hostname = False
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_cert_chain(path, password=_no_password)
                context.load_verify_locations(cadata=trusted)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"cert: key and certificate cannot be used together: {error}") from error
    return Contexts(client, server)


def _no_password() -> NoReturn:
    raise ConfigError("cert: the private key is encrypted; expected one without a password")


@contextmanager
def _readable(pem: str) -> Iterator[str]:
    """Yield the path of a file with the text, readable by this user only: the ssl module reads keys from files only."""
    descriptor, path = tempfile.mkstemp(prefix="gmp-", suffix=".pem")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(pem)
        yield path
    finally:
        os.unlink(path)


class Tls:
    """TLS on one connection. `scratch` is the buffer in which decrypted bytes appear; it may be shared."""

    def __init__(self, contexts: Contexts, role: Literal["client", "server"], scratch: bytearray) -> None:
        self.ready = False  #: whether data can flow
        self.ended = False  #: whether the other side has closed its direction properly
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = contexts.client if role == "client" else contexts.server
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=role == "server")
        self._scratch = memoryview(scratch)

    def use_scratch(self, scratch: bytearray) -> None:
        """Use another buffer for decrypted bytes from now on."""
        self._scratch = memoryview(scratch)

    @property
    def version(self) -> str | None:
        """The version, such as ``TLSv1.3``, once ready."""
        return self._object.version()

    def peer_names(self) -> list[str]:
        """Return the alternative names and the common name in the other side's certificate."""
        return certificate_names(self._object.getpeercert() or {})

    def check_name(self, node_id: str) -> None:
        """Check that the other side's certificate is for that node. *Raises:* `AuthenticationError`."""
        names = self.peer_names()
        if not names_node(names, node_id):
            raise AuthenticationError(f"node {node_id!r} has a certificate for {', '.join(names) or 'nobody'}")

    def marks_seed(self) -> bool:
        """Return whether the other side's certificate says that it is a seed's."""
        return ("URI", SEED_MARK) in (self._object.getpeercert() or {}).get("subjectAltName", ())

    def stats(self) -> dict[str, Any]:
        """Return the version, and until when (seconds since 1970) the other side's certificate is valid."""
        until = (self._object.getpeercert() or {}).get("notAfter")
        return {"tls": self.version, "cert_until": ssl.cert_time_to_seconds(str(until)) if until else None}

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes that came from the socket."""
        self._incoming.write(data)

    def feed_end(self) -> None:
        """Take the end of the socket. *Raises:* `ProtocolError` if the other side did not announce it: a cut."""
        self._incoming.write_eof()
        if self.read():
            raise ProtocolError("TLS: data behind the end")
        if not self.ended:
            raise ProtocolError("TLS: cut off")

    def handshake(self) -> bool:
        """Continue the handshake; return whether it is done. What is to be sent is in `output` afterwards.

        *Raises:* `AuthenticationError`.
        """
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except (ssl.SSLError, OSError) as error:
            raise AuthenticationError(f"TLS handshake: {_words(error)}") from error
        self.ready = True
        return True

    def read(self) -> memoryview:
        """Decrypt as much of what was fed as the scratch buffer holds; return an empty view if nothing is left.

        The view is valid until the next `read` of any connection that shares the buffer. *Raises:* `ProtocolError`.
        """
        return self._scratch[: self.read_into(self._scratch)]

    def read_into(self, target: memoryview) -> int:
        """Decrypt what was fed into `target`, record by record, while a whole one fits; return how many bytes it was.

        *Raises:* `ProtocolError`.
        """
        read, incoming = self._object.read, self._incoming
        size, last, end = len(target), len(target) - RECORD, 0
        try:
            while end <= last and incoming.pending:
                count: Any = read(size - end, target[end:])
                if not count:
                    self.ended = True
                    break
                end += count
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            raise ProtocolError(f"TLS: {_words(error)}") from error
        return end

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """Return the bytes to send for `data`, with whatever is to be sent before them. *Raises:* `ProtocolError`."""
        write = self._object.write
        view = memoryview(data)
        try:
            while view:
                view = view[write(view) :]
        except ssl.SSLError as error:
            raise ProtocolError(f"TLS: {_words(error)}") from error
        return self._outgoing.read()

    def output(self) -> bytes:
        """Return what TLS itself has to send: parts of the handshake, alerts, answers."""
        return self._outgoing.read()

    def end(self) -> bytes:
        """Close this side's direction, once everything fed has been read; return what is to be sent.

        The other direction stays open: go on with `read` until `ended`.
        """
        if self.ready:
            try:
                self._object.unwrap()
            except ssl.SSLError:
                pass  # the other side has not closed its direction yet, or has broken off: nothing to wait for
        return self._outgoing.read()


def marks_seed(contexts: Contexts) -> bool:
    """Return whether this node's certificate says that it is a seed's; TLS with itself shows it as others see it."""
    scratch = bytearray(2 * RECORD)
    client, server = Tls(contexts, "client", scratch), Tls(contexts, "server", scratch)
    try:
        for _ in range(MOST_FLIGHTS):
            for one, other in ((client, server), (server, client)):
                if not one.ready:
                    one.handshake()
                other.feed(one.output())
            if client.ready:
                return client.marks_seed()
    except AuthenticationError:
        pass  # other nodes do not accept it either, and will say why
    return False


def _words(error: Exception) -> str:
    """Return what is wrong, in words. Both sides word the refusal of a certificate alike, and say whose it is.

    Which side notices, and which one gets an alert, depends on the roles, which change from one connection to the next.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        fault = EXPIRED if error.verify_code == _HAS_EXPIRED else error.verify_message
        return f"its certificate is refused here: {fault}"
    reason = getattr(error, "reason", None) or ""
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "it has no certificate"
    alert = _ALERT.match(reason)
    if alert is not None:
        said = EXPIRED if alert[1] == "CERTIFICATE_EXPIRED" else alert[1].lower().replace("_", " ")
        about_ours = "CERTIFICATE" in alert[1] or alert[1] == "UNKNOWN_CA"
        return f"our certificate is refused there: {said}" if about_ours else f"the other side broke off: {said}"
    return re.sub(r"^\[[^\]]*\] *| *\(_ssl\.c:\d+\)$", "", str(error)) or type(error).__name__


def certificate_names(certificate: Mapping[str, Any]) -> list[str]:
    """Return the names in a certificate, given as by `ssl.SSLObject.getpeercert`."""
    names = [name for kind, name in certificate.get("subjectAltName", ()) if kind in _NAMES]
    for part in certificate.get("subject", ()):
        names += [value for key, value in part if key == "commonName"]
    return names


def names_node(names: list[str], node_id: str) -> bool:
    """Return whether one of `names` is that node ID, or ends in ``/`` and is a prefix of it (IDs with a random part)."""
    return any(name == node_id or (name.endswith("/") and node_id.startswith(name)) for name in names)
