"""The handshake as a state machine on bytes: what was received goes in, events and bytes to send come out.

No role is visible: both sides send their greeting at once. Our authentication line goes out when the owner calls
`send_auth` (who waits for whom is not the wire's business: `gmp.net.peerstate`). Bytes that were read too far stay
here until `trailing_data` is asked for: they belong to TLS or to the decoder.

Stricter than Perl: nonces must differ, the method and the framing that the other side picked must be ones that were
offered to it, and nothing that a greeting says counts before the authentication line is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gmp.errors import AuthenticationError, ProtocolError
from gmp.later import later
from gmp.wire import auth
from gmp.wire.admitting import admitting
from gmp.wire.events import NEED_DATA, Authenticated, Event, Greeted
from gmp.wire.framing import Decoder, Encoder, make_decoder, make_encoder
from gmp.wire.greeting import MAX_LINE, Greeting, format_greeting, parse_greeting
from gmp.wire.perl_strings import PERL_STRINGS, PerlStrings
from gmp.wire.states import TRANSITIONS, State, Step

if TYPE_CHECKING:
    import urllib.parse as url
else:
    url = later("urllib.parse")

LONGEST_REFUSAL = 1000  # characters; each may take three octets of the line


class Session:
    """One connection's handshake, and the encoder and decoder that it agrees on.

    `secret` and `tls` (there is a certificate) are what this side can prove itself with; what it accepts besides are
    `allow_cleartext` and `allow_anonymous`, which it never sends itself. `require_tls` refuses a side without TLS.
    `perl_strings` (a key of `PERL_STRINGS`) says what the strings of a Perl node become.
    """

    def __init__(
        self,
        *,
        node_id: str,
        nonce: str,
        secret: bytes | None,
        keys: Mapping[str, str],
        framings: Sequence[str] = ("msgpack", "json"),
        tls: bool = False,
        require_tls: bool = False,
        allow_cleartext: bool = False,
        allow_anonymous: bool = False,
        max_message: int,
        perl_strings: str = "text",
        protocol: str = "aemp",
    ) -> None:
        self.state = State.GREETING
        self.tls_active = False
        self.node_id = node_id  #: the own one
        self._incarnation = keys.get("incarnation", "")
        self._secret = secret
        self._tls, self._require_tls = tls, require_tls
        self._framings = tuple(framings)
        self._max_message = max_message
        self._perl_strings = PERL_STRINGS[perl_strings]
        self._sent = auth.sendable(secret=secret is not None, tls=tls)
        self._offered = self._sent + auth.accepted_only(
            cleartext=allow_cleartext and secret is not None, anonymous=allow_anonymous and tls
        )
        keys = {**keys, "tls": "1.0"} if tls else keys
        self._line = format_greeting(node_id, self._offered, self._framings, keys, protocol=protocol)
        self._nonce = nonce.encode()
        self._out = [self._line + b"\n" + self._nonce + b"\n"]
        self._in = bytearray()
        self._searched = 0
        self._greeting: Greeting | None = None
        self._encoder: Encoder | None = None
        self._decoder: Decoder | None = None

    # ---- what the other side said

    @property
    def has_greeting(self) -> bool:
        """Whether the first line of the other side's greeting is there."""
        return self._greeting is not None

    @property
    def greeting(self) -> Greeting:
        """The other side's greeting; its nonce is there from `Greeted` on."""
        if self._greeting is None:
            raise ProtocolError("no greeting yet")
        return self._greeting

    @property
    def is_gmp(self) -> bool:
        """Whether the other side says that it is a gmp node."""
        return "gmp" in self.greeting.keys

    @property
    def strings(self) -> PerlStrings | None:
        """How the strings of the other side are read and written; None for a gmp node, whose strings are as here."""
        return None if self.is_gmp else self._perl_strings

    @property
    def encoder(self) -> Encoder:
        """For our messages, from `send_auth` on."""
        if self._encoder is None:
            raise ProtocolError("our authentication line was not sent yet")
        return self._encoder

    @property
    def decoder(self) -> Decoder:
        """For the other side's messages, from `Authenticated` on."""
        if self._decoder is None:
            raise ProtocolError("the other side has not proved itself yet")
        return self._decoder

    def is_other_end(self, other: Session) -> bool:
        """Whether `other`, in this process, has sent what this one has received, and the other way round."""
        return self._has_sent(other) and other._has_sent(self)

    def _has_sent(self, other: Session) -> bool:
        heard = other._greeting
        return heard is not None and (heard.line, heard.nonce) == (self._line, self._nonce)

    # ---- bytes

    def data_to_send(self) -> bytes:
        """What must be written now; empties itself."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def receive_data(self, data: bytes | memoryview) -> None:
        """Take what was read; `next_event` makes something of it."""
        self._in += data

    def trailing_data(self) -> bytes:
        """What was read beyond the handshake, or beyond the greeting when TLS follows; empties itself."""
        data = bytes(self._in)
        self._in.clear()
        self._searched = 0
        return data

    def next_event(self) -> Event:
        """What happens next in the bytes received so far.

        *Raises:* `ProtocolError`, `AuthenticationError`, and nothing else; the session is of no use afterwards.
        """
        if self.state is State.ERROR:
            raise ProtocolError("the handshake has failed before")
        try:
            return self._next_event()
        except ProtocolError:
            self.state = TRANSITIONS[self.state, Step.FAILED]
            raise

    def _next_event(self) -> Event:
        if self.state not in (State.GREETING, State.SECURE):
            return NEED_DATA
        while (line := self._take_line()) is not None:
            if self.state is State.SECURE:
                return self._take_auth(line)
            if self._greeting is None:
                self._greeting = parse_greeting(line)
                self._check_greeting(self._greeting)
            else:
                return self._take_nonce(self._greeting, line)
        return NEED_DATA

    def _take_line(self) -> bytes | None:
        end = self._in.find(b"\n", self._searched)
        if end < 0 and len(self._in) < MAX_LINE:
            self._searched = len(self._in)
            return None
        if not 0 <= end < MAX_LINE:
            raise ProtocolError(f"a line longer than {MAX_LINE} bytes: {bytes(self._in[:40])!r}…")
        line = bytes(self._in[:end])
        del self._in[: end + 1]
        self._searched = 0
        return line.removesuffix(b"\r")

    def _check_greeting(self, greeting: Greeting) -> None:
        if greeting.node_id != self.node_id:
            return
        if not self._incarnation or greeting.keys.get("incarnation") != self._incarnation:
            raise ProtocolError(f"the other side says that it is {self.node_id!r}, and is another one than this node")
        if greeting.line == self._line:
            raise ProtocolError("the other side sent our own greeting back")
        # most likely a dial to ourselves: the owner looks whether it has the other end

    def _take_nonce(self, greeting: Greeting, nonce: bytes) -> Event:
        if nonce == self._nonce:
            raise ProtocolError("the other side sent our own nonce back")
        self._greeting = greeting = greeting._replace(nonce=nonce)
        self.tls_active = self._tls and greeting.offers_tls
        if self._require_tls and not self.tls_active:
            raise AuthenticationError(f"node {greeting.node_id!r} does not do TLS, which is required here")
        self._method()
        self._framing()
        if not self.tls_active:
            self.state = TRANSITIONS[self.state, Step.GREETED]
            return Greeted(greeting, None)
        self.state = TRANSITIONS[self.state, Step.GREETED_FOR_TLS]
        return Greeted(greeting, "client" if self._nonce < nonce else "server")

    def tls_started(self) -> None:
        """TLS is set up: what `receive_data` gets from now on was decrypted. *Raises:* `ProtocolError` elsewhere."""
        if self.state is not State.GREETED:
            raise ProtocolError(f"TLS cannot start in the state {self.state.value}")
        self.state = TRANSITIONS[self.state, Step.TLS_STARTED]

    def _usable(self, method: str) -> bool:
        return self.tls_active or not auth.needs_tls(method)

    def _method(self) -> str:
        """What we prove ourselves with: the first of what is accepted there that we can do."""
        accepted = self.greeting.auth
        for method in accepted:
            if method in self._sent and self._usable(method):
                return method
        raise AuthenticationError(
            f"no authentication method in common: {','.join(accepted)!r} is accepted there, we can do"
            f" {','.join(method for method in self._sent if self._usable(method))!r}"
        )

    def _framing(self) -> str:
        """How we write: the first of what can be read there that we can write."""
        readable = self.greeting.framings
        for framing in readable:
            if framing in self._framings:
                return framing
        raise ProtocolError(
            f"no framing in common: {','.join(readable)!r} can be read there, we can write {','.join(self._framings)!r}"
        )

    def send_auth(self, *, refused: str = "") -> None:
        """Queue our authentication line; from now on `encoder` is there. *Raises:* `ProtocolError` before `Greeted`.

        `refused` says to a gmp node that the connection will not be established, and why.
        """
        if self.state not in (State.SECURE, State.DATA):
            raise ProtocolError("too early for the authentication line")
        greeting = self.greeting
        method, framing = self._method(), self._framing()
        data = auth.compute(method, self._secret or b"", (self._line, self._nonce), (greeting.line, greeting.nonce))
        refusal = f";refused={url.quote(refused)}".encode() if refused else b""
        self._out.append(b"%s;%s;%s%s\n" % (method.encode(), data, framing.encode(), refusal))
        self._encoder = admitting(make_encoder(framing, self._max_message, self.strings), greeting.keys)

    def send_refusal(self, text: str) -> None:
        """Queue, in the place of our authentication line, why there will be none. It proves nothing, on purpose: with a
        proof on it, an attacker in between could cut the refusal off and have the rest. The other side shows it, no more.
        """
        self._out.append(b"%s;;;%s\n" % (auth.REFUSED, url.quote(text[:LONGEST_REFUSAL]).encode()))

    def _take_auth(self, line: bytes) -> Event:
        fields = line.split(b";")
        if len(fields) < 3:
            raise AuthenticationError(f"authentication line {line[:40]!r}: expected METHOD;DATA;FRAMING")
        if fields[0] == auth.REFUSED:
            said = url.unquote(b";".join(fields[3:]).decode("latin-1"))[:LONGEST_REFUSAL]
            raise AuthenticationError(f"the other side refuses us, and says: {said!r}")
        method, framing = fields[0].decode("latin-1"), fields[2].decode("latin-1")
        if method not in self._offered or not self._usable(method):
            raise AuthenticationError(f"authentication method {method[:40]!r} was not offered")
        if framing not in self._framings:
            raise ProtocolError(f"framing {framing[:40]!r} was not offered")
        greeting = self.greeting
        if not auth.verify(
            method, fields[1], self._secret or b"", (greeting.line, greeting.nonce), (self._line, self._nonce)
        ):
            raise AuthenticationError(
                f"node {greeting.node_id!r} does not have our secret"
                if auth.needs_secret(method)
                else f"node {greeting.node_id!r} has sent a wrong {method} digest"
            )
        self.state = TRANSITIONS[self.state, Step.AUTHENTICATED]
        self._decoder = make_decoder(framing, self._max_message, self.strings)
        refused = [field[8:] for field in fields[3:] if field.startswith(b"refused=")]
        return Authenticated(method, framing, url.unquote(refused[0].decode("latin-1")) if refused else "")
