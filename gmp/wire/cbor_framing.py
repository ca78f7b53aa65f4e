"""The cbor framing, for Perl: concatenated CBOR items, each an array. Needs cbor2, the extra ``gmp[cbor]``.

The reader finds the end of an item by itself (`ItemScanner`), which makes any split of the bytes the same, and refuses what
is too large or nested too deep before the decoder sees it. Tags are refused but for a few: those of shared references
would let a short message become an endless value, and others ask the decoder for expensive work.

A Perl string without characters over 255 comes as a byte string, whatever it means. So byte strings in the place of a
port's name, of a tag, and as keys of maps are text here, decoded as Latin-1; elsewhere they stay bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gmp.errors import ConfigError, MessageError, ProtocolError
from gmp.wire.dispatch import Find, Other, check_head, dispatch
from gmp.wire.nesting import MAX_NESTING, SHORT, check_message

try:
    import cbor2
except ImportError:  # an extra: `require` says so where somebody wants it
    cbor2 = None  # type: ignore[assignment]

AVAILABLE = cbor2 is not None
_INDIRECTION, _SELF_DESCRIBED = 22098, 55799  # a Perl reference to a scalar; "this is CBOR"
_TAGS = frozenset((2, 3, _INDIRECTION, _SELF_DESCRIBED))  # 2 and 3: integers beyond 64 bits
_SIMPLE = frozenset((20, 21, 22, 25, 26, 27))  # false, true, null, and the three sizes of floats
_SCALARS = frozenset((type(None), bool, int, float, str, bytes))
_ENDLESS = -1  # the count of what an item of indefinite length still holds
MOST_OTHER_KEYS = 256  #: of a map that are neither text nor bytes: cbor2 builds it at once, and they may collide
_NO_MAP, _TEXT_KEY = -1, (2, 3)
_MANY_KEYS = f"a map in cbor has more than {MOST_OTHER_KEYS} keys that are neither text nor bytes"


def require() -> None:
    """*Raises:* `ConfigError` when cbor2 is not installed."""
    if not AVAILABLE:
        raise ConfigError("the framing 'cbor' needs the package cbor2: pip install 'gmp[cbor]'")


def _plain(value: Any) -> Any:
    """`value` made of what every CBOR reader knows. *Raises:* `TypeError`; `RecursionError` for a cycle."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is list or kind is tuple:
        return [_plain(item) for item in value]
    if kind is dict:
        if len(value) > MOST_OTHER_KEYS and sum(type(key) not in (str, bytes) for key in value) > MOST_OTHER_KEYS:
            raise ValueError(_MANY_KEYS)
        return {_plain(key): _plain(item) for key, item in value.items()}
    port_id = getattr(value, "__gmp_port_id__", None)
    if port_id is None:
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} {value!r:.80} cannot travel as cbor")
    return str(port_id)


class CborEncoder:
    """Packs messages as CBOR arrays."""

    name = "cbor"

    def __init__(self, max_message: int) -> None:
        require()
        self.max_message = max_message

    def encode(self, destination: str, message: tuple[Any, ...]) -> bytes:
        """The bytes of a message. *Raises:* `MessageError`."""
        try:
            data = self.pack([destination, *message])
        except (TypeError, ValueError, OverflowError, RecursionError, cbor2.CBORError) as error:
            raise MessageError(f"message to {destination!r}: {error or type(error).__name__}") from error
        if len(data) > SHORT:
            self.check(destination, message, len(data))
        return data

    def pack(self, message: list[Any], /) -> bytes:
        """The bytes of ``[destination, …]``; raises whatever the parts raise."""
        return cbor2.dumps(_plain(message))

    def check(self, destination: str, message: tuple[Any, ...], size: int) -> None:
        """Check a message that is not short. *Raises:* `MessageError`."""
        check_message(destination, message, size, self.max_message)


class ItemScanner:
    """Finds where CBOR items end, in bytes that come in any pieces."""

    def __init__(self) -> None:
        self._open: list[int] = []  # of each item we are in, how many items it still holds
        self._keys: list[int] = []  # and of each map how many keys are no text, doubled, and 1 when a value comes next
        self._strings = False  # within a string of indefinite length: only pieces of strings may follow
        self.position = 0  #: of the next head that was not looked at yet

    def find_end(self, buffer: bytearray) -> int | None:
        """The end of the item, None when it is not there yet. *Raises:* `ProtocolError`."""
        while self.position < len(buffer):
            head = buffer[self.position]
            major, info = head >> 5, head & 31
            if info in (28, 29, 30):
                raise ProtocolError(f"bad cbor: head {head:#04x}")
            width = 1 << (info - 24) if 24 <= info < 28 else 0
            start = self.position + 1 + width
            if start > len(buffer):
                return None
            value = int.from_bytes(buffer[self.position + 1 : start], "big") if width else info
            if major in (2, 3) and info != 31:
                if start + value > len(buffer):
                    return None
                start += value
            self.position = start
            if self._take(major, info, value):
                return start
        return None

    def _take(self, major: int, info: int, value: int) -> bool:
        """Go over a head (and its string); return whether the item as a whole ends here."""
        endless = info == 31
        if self._strings and not (major in (2, 3) and not endless) and not (major == 7 and endless):
            raise ProtocolError("bad cbor: something else within a string")
        if endless and major in (0, 1, 6):
            raise ProtocolError(f"bad cbor: indefinite length of type {major}")
        if major == 7 and endless:
            if not self._open or self._open[-1] != _ENDLESS:
                raise ProtocolError("bad cbor: an end without a begin")
            self._open.pop()
            self._keys.pop()
            self._strings = False
            return self._ended()
        if major == 7 and info not in _SIMPLE:
            raise ProtocolError(f"bad cbor: simple value {value}")
        if major == 6 and value not in _TAGS:
            raise ProtocolError(f"cbor tag {value} is not supported")
        if self._keys and self._keys[-1] != _NO_MAP and not self._strings:
            self._count_key(major)
        holds = {4: value, 5: 2 * value, 6: 1}.get(major, 0)
        if not endless and not holds:
            return self._ended()
        self._strings = endless and major in (2, 3)
        self._open.append(_ENDLESS if endless else holds)
        self._keys.append(0 if major == 5 else _NO_MAP)
        if len(self._open) > MAX_NESTING:
            raise ProtocolError(f"a message is nested deeper than {MAX_NESTING} levels")
        return False

    def _ended(self) -> bool:
        """An item has ended, and with it perhaps what it was the last one in."""
        while self._open:
            if self._open[-1] == _ENDLESS:
                return False
            self._open[-1] -= 1
            if self._open[-1]:
                return False
            self._open.pop()
            self._keys.pop()
        return True

    def _count_key(self, major: int) -> None:
        """An item begins in a map: a key, or the value of one."""
        state = self._keys[-1] ^ 1
        if state & 1 and major not in _TEXT_KEY:
            state += 2
            if state >> 1 > MOST_OTHER_KEYS:
                raise ProtocolError(_MANY_KEYS)
        self._keys[-1] = state


class CborDecoder:
    """Finds CBOR arrays in a stream."""

    def __init__(self, max_message: int) -> None:
        require()
        self._max_message = max_message
        self._buffer = bytearray()
        self._scanner = ItemScanner()

    def decode(self, data: bytes | bytearray | memoryview) -> Iterator[list[Any]]:
        """Yield each message that `data` completes. *Raises:* `ProtocolError`."""
        self._buffer += data
        start, scanner = 0, self._scanner
        while (end := scanner.find_end(self._buffer)) is not None:
            if end - start > self._max_message:
                break
            yield self._parse(bytes(self._buffer[start:end]))
            start = end
        del self._buffer[:start]
        scanner.position -= start
        if len(self._buffer) > self._max_message:
            raise ProtocolError(f"a message over the limit of {self._max_message} bytes")

    def dispatch(self, data: bytes | bytearray | memoryview, find: Find, other: Other) -> int:
        """As `framing.Decoder.dispatch`."""
        return dispatch(self.decode(data), find, other)

    def _parse(self, data: bytes) -> list[Any]:
        try:
            message = _with_text_keys(cbor2.loads(data, tag_hook=_indirection))
        except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ProtocolError(f"bad cbor: {error or type(error).__name__}") from error
        if isinstance(message, list):
            for place in range(min(2, len(message))):  # the port's name and the tag
                if isinstance(message[place], bytes):
                    message[place] = message[place].decode("latin-1")
        return check_head(message)


def _indirection(*arguments: Any) -> Any:
    """A reference to a scalar is that scalar. Where the tag stands among the arguments depends on cbor2's version."""
    return next(argument.value for argument in arguments if isinstance(argument, cbor2.CBORTag))


def _with_text_keys(value: Any) -> Any:
    """`value` with keys that are text; its nesting is bounded already."""
    if isinstance(value, list):
        return [_with_text_keys(item) for item in value]
    if isinstance(value, dict):
        return {
            key.decode("latin-1") if isinstance(key, bytes) else key: _with_text_keys(item) for key, item in value.items()
        }
    return value
