"""How a secret gets from one machine to another on a LAN: somebody reads six words on the one, and types them on the other.

The machine that has the secret *offers* it, the other one *asks* for it. SPAKE2 (the package of that name; RFC 9382 is its
theory) makes a key of the words: whoever listens learns nothing, and whoever takes part without knowing the words has one
guess each time, of 2^66. After `TRIES` wrong ones the words are void. The secret travels under that key (ChaCha20-Poly1305),
and only after the other side has shown that it has the key.

    asker: SPAKE2 →                 ← SPAKE2
    asker: proof of the key →       ← the sealed secret; nothing if the proof is wrong

Each is two bytes of length, and as many bytes.
"""

from __future__ import annotations

import hmac
import importlib
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import gevent
from gevent import socket

from gmp.config import Address, parse_advertised
from gmp.errors import ConfigError, GmpError, WaitTimeout
from gmp.lan.mdns import Mdns, addresses_here
from gmp.outside import chance, clock

TYPE = "_gmp-pair._tcp.local."
WORDS, BITS = 6, 11  #: words of a code, bits of each
TRIES = 3  #: wrong ones, after which the words are void
TURN = 10.0  # seconds for one machine's pairing
MOST = 1024  # bytes of one message
PAUSE = 0.2  # seconds between two looks at what was found
# Seconds, from the first machine where the words are wrong, in which others are looked for: answers come one by one.
LOOK_ON = 3.0


def _package(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"pairing needs {what}: pip install 'gevent-mp[lan]'") from None


def _all_words() -> list[str]:
    words: list[str] = _package("mnemonic", "mnemonic").Mnemonic("english").wordlist
    return words


def new_words() -> list[str]:
    """Return a new code. *Raises:* `ConfigError` if a package is missing."""
    words = _all_words()
    return [words[chance.randbits(BITS)] for _ in range(WORDS)]


def check_words(texts: Iterable[str]) -> list[str]:
    """Return the words that were typed, in any case, with spaces or hyphens. *Raises:* `ConfigError` naming a wrong one."""
    typed = " ".join(texts).lower().replace("-", " ").split()
    known = _all_words()
    for word in typed:
        if word not in known:
            close = get_close_matches(word, known, 1)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            raise ConfigError(f"{word!r} is no word of a pairing code{meant}")
    if len(typed) != WORDS:
        raise ConfigError(f"{len(typed)} words: expected the {WORDS} that the other machine shows")
    return typed


class _Keys:
    """What both sides make of the words."""

    def __init__(self, lan: str, words: Iterable[str], *, offers: bool) -> None:
        spake2 = _package("spake2", "spake2")
        self._lan = lan.encode()
        side = spake2.SPAKE2_B if offers else spake2.SPAKE2_A
        self._side = side(" ".join(words).encode(), idA=b"asks for " + self._lan, idB=b"offers " + self._lan)
        self.message: bytes = self._side.start()
        self.proof = b""

    def finish(self, message: bytes) -> None:
        """Take the other side's message. *Raises:* `GmpError`."""
        try:
            key: bytes = self._side.finish(message)
        except Exception as error:  # no class of its own: of what is no point of the curve it says so by a bare Exception
            raise GmpError(f"the other machine does not keep to the protocol of pairing: {error}") from error
        self.proof = self._derived(key, b"proof of the asker")
        aead = _package("cryptography.hazmat.primitives.ciphers.aead", "cryptography")
        self._seal = aead.ChaCha20Poly1305(self._derived(key, b"secret"))

    @staticmethod
    def _derived(key: bytes, purpose: bytes) -> bytes:
        return hmac.new(key, b"gmp pair\n" + purpose, "sha256").digest()

    def seal(self, secret: bytes) -> bytes:
        """Return the secret under the key, which is used once."""
        sealed: bytes = self._seal.encrypt(bytes(12), secret, self._lan)
        return sealed

    def open(self, sealed: bytes) -> bytes:
        """Undo `seal`. *Raises:* `GmpError`."""
        invalid = _package("cryptography.exceptions", "cryptography").InvalidTag
        try:
            secret: bytes = self._seal.decrypt(bytes(12), sealed, self._lan)
        except invalid as error:
            raise GmpError("the secret arrived altered: somebody between the machines interferes") from error
        return secret


def _send(sock: Any, data: bytes) -> None:
    sock.sendall(len(data).to_bytes(2, "big") + data)


def _read(sock: Any) -> bytes:
    size = int.from_bytes(_read_all(sock, 2), "big")
    if size > MOST:
        raise GmpError(f"the other machine sends {size} bytes, expected up to {MOST}")
    return _read_all(sock, size)


def _read_all(sock: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise GmpError("the other machine has ended the connection")
        data += piece
    return data


class Offer:
    """The secret of a network, offered to whoever has typed `words`. Usable in ``with``."""

    def __init__(self, lan: str, secret: bytes, words: Iterable[str], host: str = "") -> None:
        """`host`: a numeric address of this machine to be asked at, instead of all. *Raises:* `ConfigError`, `GmpError`."""
        self._lan, self._secret, self._words = lan, secret, list(words)
        self._listener = socket.socket()  # gevent's `create_server` would return one that blocks natively
        self._listener.bind((host, 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]  #: where it listens
        try:
            self._mdns = Mdns([Address(each, self.port) for each in ([host] if host else addresses_here())])
            try:
                self._mdns.announce(TYPE, chance.token_hex(8), self.port, {"lan": lan})
            except BaseException:
                self._mdns.close()
                raise
        except BaseException:
            self._listener.close()
            raise

    def wait(self, timeout: float) -> str:
        """Wait until a machine has the secret; return its address.

        *Blocks:* up to `timeout` seconds. *Raises:* `WaitTimeout`; `GmpError` after `TRIES` wrong codes.
        """
        wrong = 0
        with gevent.Timeout(timeout, WaitTimeout(f"nobody has typed the words within {timeout:g} s")):
            while wrong < TRIES:
                sock, address = self._listener.accept()
                with sock:
                    right = self._answer(sock)
                if right:
                    return str(address[0])
                wrong += right is False
        raise GmpError(f"{TRIES} wrong codes were tried: these words are void")

    def _answer(self, sock: Any) -> bool | None:
        """Return whether the other side knows the words; None when it did not say."""
        keys = _Keys(self._lan, self._words, offers=True)
        late = gevent.Timeout(TURN)
        try:
            with late:
                keys.finish(_read(sock))
                _send(sock, keys.message)
                right = hmac.compare_digest(_read(sock), keys.proof)
                _send(sock, keys.seal(self._secret) if right else b"")
                return right
        except gevent.Timeout as timeout:
            if timeout is not late:
                raise
        except (OSError, GmpError):
            pass  # it has ended the connection, or is no gmp: no guess was made
        return None

    def close(self) -> None:
        """Offer it no more. *Blocks:* for a moment."""
        self._listener.close()
        self._mdns.close()

    def __enter__(self) -> Offer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ask(lan: str, words: Iterable[str], timeout: float, host: str = "") -> bytes:
    """Ask for the secret of a network, whose words another machine shows; return it. `host`: as of `Offer`.

    *Blocks:* up to `timeout` seconds. *Raises:* `WaitTimeout` when nobody offers it; `GmpError` when the words are wrong.
    """
    words = list(words)
    failure: GmpError = WaitTimeout(
        f"nobody on this LAN offers {lan!r}: run 'gmp pair {lan}' on a machine that is part of it"
    )
    mdns = Mdns([Address(each, 0) for each in ([host] if host else addresses_here())])
    late = gevent.Timeout(timeout)
    refused: dict[str, float] = {}  # where these words are wrong, and since when: each is asked once, as it counts
    try:
        mdns.browse(TYPE)
        with late:
            is_last = False
            while not is_last:
                # at a machine that never answers `TURN` has passed: so one look more, for what was found in the meantime
                is_last = bool(refused) and clock.monotonic() >= min(refused.values()) + LOOK_ON
                offers = (each.get("at", "") for each in mdns.found(TYPE) if each.get("lan") == lan)
                for at in [each for each in offers if each not in refused]:
                    try:
                        secret = _ask_there(lan, words, at.split())
                    except GmpError as error:  # its program was killed, or a stranger announces it: there may be others
                        failure = error
                        continue
                    if secret is not None:
                        return secret
                    refused[at] = clock.monotonic()
                if not is_last:
                    gevent.sleep(PAUSE)
    except gevent.Timeout as timed:
        if timed is not late:
            raise
    finally:
        mdns.close()
    if refused:
        raise GmpError(f"these are not the words that are shown for {lan!r}: they were read or typed wrong")
    raise failure


def _ask_there(lan: str, words: list[str], addresses: list[str]) -> bytes | None:
    """Return the secret; None when the words are wrong there."""
    error: Exception = GmpError("no address was announced")
    for text in addresses:
        try:
            address = parse_advertised(text)
            with gevent.Timeout(TURN, OSError("no answer")), socket.create_connection(address) as sock:
                keys = _Keys(lan, words, offers=False)
                _send(sock, keys.message)
                keys.finish(_read(sock))
                _send(sock, keys.proof)
                sealed = _read(sock)
                return keys.open(sealed) if sealed else None
        except (OSError, GmpError) as why:
            error = why
    raise GmpError(f"no secret from the machine that offers {lan!r}, at {', '.join(addresses)}: {error}")
