"""The msgpack framing: arrays back to back, with ext types for what msgpack has no type for.

Values arrive as they were sent: tuple (inside a message), set, frozenset, int beyond 64 bit, Decimal and UUID are ext
types of their own, aware datetime is msgpack's timestamp (it arrives in UTC). Inside an ext type is again msgpack.

Nesting counts through ext types and is refused *before* the next decoder call: each level of an ext hook is a level of
the C stack, and about 200 of them crash the interpreter.

The unpacker takes in what it gets: of a message that comes in pieces its buffer holds only the last ones. So it is known
where the last message ended, for the size of the next one, and what is over the limit is refused before it is whole.

There are two unpackers, as arrays are better decoded as lists here and as tuples there. The messages of a run are delivered
as they are if they come as tuples, which takes a third off; but what holds containers is as it was sent only if arrays
come as lists, and else must be restored, which is dear. So lists are made, and after a run of plain values tuples, until
something else comes. Either way the outcome is the same.
"""

from __future__ import annotations

import decimal
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from gc import get_referents
from typing import Any

import msgpack

from gmp.errors import MessageError, ProtocolError
from gmp.wire.dispatch import Find, Other, check_head
from gmp.wire.keys import build_map, build_set
from gmp.wire.nesting import MAX_NESTING, SHORT, TOO_DEEP, check_message, depth_over
from gmp.wire.restore import SentTuple, restore, restore_message
from gmp.wire.runs import LONGEST_RUN, split_run

TUPLE, SET, FROZENSET, INTEGER, DECIMAL, UUID = 1, 2, 3, 4, 5, 6
_SEQUENCES: dict[int, Callable[[list[Any]], Any]] = {
    TUPLE: tuple,
    SET: partial(build_set, set),
    FROZENSET: partial(build_set, frozenset),
}
_CODES: dict[type, int] = {tuple: TUPLE, set: SET, frozenset: FROZENSET}
_BUFFER = 256 * 1024  # bytes of a decoder's buffer at first; it is used from end to end, and so all kept in memory
_SPARE = 1024 * 1024  # the decoder's buffer must hold one message and what was read behind it
_MALFORMED = (msgpack.exceptions.UnpackException, ValueError, TypeError, OverflowError, RecursionError)
_FEW = 64  # messages: so many are better decoded by the unpacker in use than to change over for them
_NO_MESSAGE = (TypeError, LookupError)  # what looking up the name raises when it is no array, empty, or no name


def _default(value: Any) -> Any:
    """What msgpack itself cannot pack."""
    code = _CODES.get(type(value))
    if code is not None:
        return msgpack.ExtType(code, _pack_inner(list(value)))
    port_id = getattr(value, "__gmp_port_id__", None)
    if port_id is not None:
        return str(port_id)
    if type(value) is int:
        return msgpack.ExtType(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if type(value) is decimal.Decimal:
        return msgpack.ExtType(DECIMAL, str(value).encode())
    if type(value) is uuid.UUID:
        return msgpack.ExtType(UUID, value.bytes)
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} {value!r:.80} cannot travel in a message")


def _pack_inner(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, strict_types=True, default=_default, datetime=True)
    return packed


def _is_from_decoder(error: Exception) -> bool:
    """Whether the frame that our own one called when it failed was the decoder's."""
    trace = error.__traceback__
    called = trace.tb_next if trace is not None else None
    return called is None or str(called.tb_frame.f_globals.get("__name__")).startswith("msgpack")


def _limits(size: int) -> dict[str, int]:
    """For an unpacker: what `size` bytes can hold at most, so that a head that claims more is refused at once."""
    each = {f"max_{kind}_len": size for kind in ("str", "bin", "array", "ext")}
    return {**each, "max_map_len": size // 2}


class MsgpackEncoder:
    """Packs messages as msgpack arrays, with one kept packer."""

    name = "msgpack"

    def __init__(self, max_message: int) -> None:
        self.max_message = max_message
        self._packer = msgpack.Packer(strict_types=True, default=_default, datetime=True)
        self.pack: Callable[[list[Any]], bytes] = self._packer.pack

    def encode(self, destination: str, message: tuple[Any, ...]) -> bytes:
        """The bytes of a message. *Raises:* `MessageError` naming the value."""
        try:
            data = self.pack([destination, *message])
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            self._packer.reset()
            raise MessageError(f"message to {destination!r}: {error or type(error).__name__}") from error
        if len(data) > SHORT:
            self.check(destination, message, len(data))
        return data

    def check(self, destination: str, message: tuple[Any, ...], size: int) -> None:
        """Check a message that is not short. *Raises:* `MessageError`."""
        check_message(destination, message, size, self.max_message)


class MsgpackDecoder:
    """Finds msgpack arrays in a stream, with two kept unpackers of which it uses one at a time."""

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._level = 0
        self._lists = self._make_unpacker(True, self._ext)
        self._tuples = self._make_unpacker(False, self._ext_among_tuples)
        self._unpacker = self._lists  # in use; the positions are in what this one was fed
        self._suited = self._lists  # for what came last, and likely for what comes next
        self._singles = 0  # messages since the last run
        self._fed = 0  # bytes in all
        self._end = 0  # of the last message that is whole

    def _make_unpacker(self, use_list: bool, ext_hook: Callable[[int, bytes], Any]) -> msgpack.Unpacker:
        return msgpack.Unpacker(
            use_list=use_list,
            strict_map_key=False,
            ext_hook=ext_hook,
            object_pairs_hook=build_map,
            read_size=_BUFFER,
            timestamp=3,
            **_limits(max(self._max_message, LONGEST_RUN)),
            max_buffer_size=self._max_message + _SPARE,
        )

    def decode(self, data: bytes | bytearray | memoryview) -> Iterator[list[Any]]:
        """Yield each message that `data` completes. *Raises:* `ProtocolError`."""
        unpacker, tell = self._unpacker, self._unpacker.tell
        self._fed += len(data)
        try:
            unpacker.feed(data)
            for message in unpacker:
                start, self._end = self._end, tell()
                yield check_head(self._checked(message, self._end - start))
                if self._end == self._fed:
                    return
        except _MALFORMED as error:
            raise ProtocolError(f"bad msgpack: {error or type(error).__name__}") from error
        self._check_part(tell() - self._end)

    def dispatch(self, data: bytes | bytearray | memoryview, find: Find, other: Other) -> int:
        """As `framing.Decoder.dispatch`, with as little as can be done for a short message: this is the hot path."""
        count = 0
        try:
            while True:
                unpacker, end = self._unpacker, self._end
                tell = unpacker.tell
                fed = self._fed = self._fed + len(data)
                unpacker.feed(data)
                for message in unpacker:
                    count += 1
                    start, end = end, tell()
                    try:
                        destination = find(message[0])
                    except _NO_MESSAGE:
                        destination = None
                    if destination is not None and message.__class__ is list:
                        if end - start > SHORT and (end - start > self._max_message or get_referents(*message)):
                            self._checked(message, end - start)  # what refers to something may be a container
                        del message[0]
                        destination.put(tuple(message))
                    else:
                        further, stop = self._dispatch_more(message, end - start, destination, find, other)
                        count += further
                        if stop:
                            self._end = end
                            return count
                        if self._suited is not unpacker:
                            break
                    if end == fed:
                        break  # to find that there is no more is the larger part of what a read of one message costs
                else:
                    break  # the unpacker has perhaps begun with the next message: no place to change
                if self._suited is unpacker:
                    break
                data = self._change(fed - end)
        except _MALFORMED as error:
            if not _is_from_decoder(error):
                raise  # not the bytes are wrong but a destination
            raise ProtocolError(f"bad msgpack: {error or type(error).__name__}") from error
        self._end = end
        if not count:  # else the part of a message behind the last one is less than was read at once
            self._check_part(tell() - end)
        return count

    def _dispatch_more(
        self, message: Any, size: int, destination: Any, find: Find, other: Other
    ) -> tuple[int, object]:
        """What is not a list for a port; returns how many messages there were besides the first, and whether to stop."""
        if message.__class__ is not (tuple if self._unpacker is self._tuples else list):
            check_head(self._checked(message, size))
        if destination is not None and size <= self._max_message:
            decoded = message[1:]
            restored = restore_message(decoded)
            destination.put(restored)
            self._singles += 1
            if restored is not decoded or self._singles > _FEW:
                self._suited = self._lists
            return 0, False
        if destination is None and message and message[0].__class__ is int:
            return self._dispatch_run(message, size, find, other)
        return 0, other(check_head(self._checked(message, size)))

    def _dispatch_run(
        self, run: list[Any] | tuple[Any, ...], size: int, find: Find, other: Other
    ) -> tuple[int, object]:
        name, messages, plain = split_run(run, size, self._max_message)
        destination = find(name)
        if destination is not None:
            destination.put_all(messages)
        elif any(other([name, *message]) for message in messages):
            return len(messages) - 1, True
        self._singles = 0
        if not plain:
            self._suited = self._lists
        elif len(messages) > _FEW:
            self._suited = self._tuples
        return len(messages) - 1, False

    def _change(self, rest: int) -> bytes:
        """Go over to the unpacker that suits, at the end of a message; returns the `rest` of the bytes, to feed it with."""
        data: bytes = self._unpacker.read_bytes(rest)
        self._unpacker = self._suited
        self._fed = self._end = self._unpacker.tell()
        return data

    def _check_part(self, size: int) -> None:
        """Check how much of a message, or of a run, is there before the rest."""
        if size > LONGEST_RUN and size > self._max_message:
            raise ProtocolError(f"a message over the limit of {self._max_message} bytes")

    def _checked(self, message: Any, size: int) -> Any:
        """The message as it was sent."""
        if size > self._max_message:
            raise ProtocolError(f"a message of {size} bytes, which is over the limit of {self._max_message}")
        if self._unpacker is self._tuples:
            return restore(message)
        if depth_over(message, MAX_NESTING):
            raise ProtocolError(TOO_DEEP)
        return message

    def _ext(self, code: int, data: bytes) -> Any:
        if code in _SEQUENCES:
            return _SEQUENCES[code](self._inner(data))
        if code == INTEGER:
            return int.from_bytes(data, "big", signed=True)
        if code == DECIMAL:
            try:
                return decimal.Decimal(data.decode())
            except decimal.InvalidOperation:
                raise ValueError(f"bad decimal {data[:40]!r}") from None
        if code == UUID:
            return uuid.UUID(bytes=data)
        raise ValueError(f"unknown ext type {code}")

    def _ext_among_tuples(self, code: int, data: bytes) -> Any:
        value = self._ext(code, data)
        return SentTuple(value) if value.__class__ is tuple else value

    def _inner(self, data: bytes) -> Any:
        if self._level >= MAX_NESTING:
            raise ValueError(f"nested deeper than {MAX_NESTING} levels")
        self._level += 1
        try:
            value = msgpack.unpackb(  # the limits are what `data` can hold unless given, and to give them costs as much
                data, use_list=True, strict_map_key=False, ext_hook=self._ext, object_pairs_hook=build_map, timestamp=3
            )
        finally:
            self._level -= 1
        if not isinstance(value, list):
            raise ValueError("an ext type of a sequence must hold an array")
        return value
