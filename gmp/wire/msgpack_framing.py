"""The msgpack framing: arrays back to back, with ext types for what msgpack has no type for.

Values arrive as they were sent: tuple (inside a message), set, frozenset, int beyond 64 bit, Decimal and UUID are ext
types of their own, aware datetime is msgpack's timestamp (it arrives in UTC). Inside an ext type is again msgpack.

Nesting counts through ext types and is refused *before* the next decoder call: each level of an ext hook is a level of
the C stack, and about 200 of them crash the interpreter.

The unpacker takes in what it gets: of a message that comes in pieces its buffer holds only the last ones. So it is known
where the last message ended, for the size of the next one, and what is over the limit is refused before it is whole.

There are two unpackers, as arrays are better decoded as lists here, as tuples there. The messages of a batch are delivered
as they are if they come as tuples, which takes a third off; but what holds containers is as it was sent only if arrays
come as lists, and else must be restored, which is dear. So lists are made, and after a batch of plain values tuples, until
something else comes. Either way the outcome is the same.
"""

from __future__ import annotations

import datetime
import gc
import sys
from collections.abc import Callable, Iterator
from gc import get_referents
from typing import Any

import msgpack

from gmp.errors import MessageError, ProtocolError
from gmp.ids import SentAsId
from gmp.wire.batches import LONGEST_BATCH, split_batch
from gmp.wire.beside import Frame, read_frame
from gmp.wire.dispatch import Decoded, Find, Other, Undecodable, check_head
from gmp.wire.extensions import DECIMAL, FROZENSET, INTEGER, SET, TUPLE, UUID, Extensions
from gmp.wire.keys import build_map
from gmp.wire.nesting import SHORT, check_message
from gmp.wire.restore import NotRestored, is_flat, problem_of, restore
from gmp.wire.values import Convert, Table, moment, pairs, why

_BUFFER = 256 * 1024  # bytes of a decoder's buffer at first; it is used from end to end, and so all kept in memory
_SPARE = 1024 * 1024  # the decoder's buffer must hold one message and what was read behind it
_MALFORMED = (msgpack.exceptions.UnpackException, ValueError, TypeError, OverflowError, RecursionError)
_FEW = 64  # messages: so many are better decoded by the unpacker in use than to change over for them
_ARRAYS = (list, tuple)
_NO_MESSAGE = (TypeError, LookupError)  # what looking up the name raises without an array that begins with a name


def _new_packer() -> Any:
    """A packer that executes no Python while it packs, and so nothing of anybody else's.

    Its hook for unknown values is the look into a slot: it gives the ID of a port that has been asked for it, and raises for
    everything else.
    """
    return msgpack.Packer(strict_types=True, default=SentAsId.__dict__["sent_as"].__get__)


_SHARED = _new_packer()  # holds nothing between two messages, so one will do, whatever their connections are
_spare: list[Any] = []  # idle packers: as many as messages were ever packed within one another


def pack_by_itself(message: list[Any]) -> bytes:
    """Pack `message` with a packer of its own; a packer that has raised is not used again."""
    try:
        packer = _spare.pop()
    except IndexError:
        packer = _new_packer()
    data: bytes = packer.pack(message)
    _spare.append(packer)
    return data


class _Collections:
    """race: a `__del__` sends while something is packed.

    Up to Python 3.11 garbage is collected wherever something is allocated, also while an error is raised within the packer.
    While a collection is under way the packer counts as lent out: it refuses to pack, by `BufferError`, so that a message
    which is sent then gets a packer of its own. Later versions collect between two steps of Python, of which it has none.
    """

    def __init__(self) -> None:
        self._lent: memoryview | None = None

    def __call__(self, phase: str, _info: Any) -> None:
        lent, self._lent = self._lent, memoryview(_SHARED) if phase == "start" else None
        if lent is not None:
            lent.release()


if msgpack.Packer.__module__ == "msgpack.fallback":  # it is Python, in which a signal handler strikes wherever it likes
    _pack = pack_by_itself
else:
    _pack = _SHARED.pack
    if sys.version_info < (3, 12):
        gc.callbacks.insert(0, _Collections())


def _sequence(code: int) -> Callable[[Any, Convert], Any]:
    def convert(value: Any, convert_item: Convert) -> Any:
        return msgpack.ExtType(code, pack_by_itself([convert_item(item) for item in value]))

    return convert


def _integer(value: int, _convert: Convert) -> Any:
    if -(1 << 63) <= value < 1 << 64:
        return value
    return msgpack.ExtType(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _list(value: list[Any], convert: Convert) -> list[Any]:
    kinds = {*map(type, value)}
    if kinds <= _KEPT:
        return value
    if kinds == _INTEGERS and min(value) >= -(1 << 63) and max(value) < 1 << 64:
        return value
    return [convert(item) for item in value]


_KEPT: frozenset[type] = frozenset((type(None), bool, float, str, bytes, bytearray, memoryview))
_INTEGERS = {int}
_TABLE = Table(
    "msgpack",
    _KEPT,
    {
        int: _integer,
        list: _list,
        dict: pairs,
        tuple: _sequence(TUPLE),
        set: _sequence(SET),
        frozenset: _sequence(FROZENSET),
        datetime.datetime: lambda value, _: msgpack.Timestamp(*moment(value)),
    },
    rare=(
        ("decimal", "Decimal", lambda value, _: msgpack.ExtType(DECIMAL, str(value).encode())),
        ("uuid", "UUID", lambda value, _: msgpack.ExtType(UUID, value.bytes)),
    ),
)


def table_with_octets(kinds: frozenset[type], octets: Callable[[Any, Convert], Any]) -> Table:
    """The table of the encoder, in which what is of these `kinds` becomes what `octets` makes of it."""

    def items(value: list[Any], convert: Convert) -> list[Any]:
        return _list(value, convert) if kinds.isdisjoint(map(type, value)) else [convert(item) for item in value]

    return _TABLE.changed({**dict.fromkeys(kinds, octets), list: items})


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
    """Packs messages as msgpack arrays.

    Most messages are of values that msgpack has types for: `pack` is the C packer itself, which refuses all others. Those
    are made plain first, and packed by a packer of their own, as the user's code may run, and send, meanwhile.
    """

    name = "msgpack"

    def __init__(self, max_message: int) -> None:
        self.max_message = max_message
        self.pack: Callable[[list[Any]], bytes] = _pack

    def encode(self, destination: str, message: tuple[Any, ...]) -> bytes:
        """The bytes of a message. *Raises:* `MessageError` naming the value."""
        try:
            data = self.pack([destination, *message])
        except Exception:
            data = self.repack(destination, [destination, *message])
        if len(data) > SHORT:
            self.check(destination, message, len(data))
        return data

    def repack(self, destination: str, elements: list[Any]) -> bytes:
        """As `framing.Encoder.repack`."""
        try:
            return pack_by_itself(_TABLE.plain(elements))
        except Exception as error:
            raise MessageError(f"message to {destination!r}: {why(error)}") from error

    def check(self, destination: str, message: tuple[Any, ...], size: int) -> None:
        """Check a message that is not short. *Raises:* `MessageError`."""
        check_message(destination, message, size, self.max_message)


class MsgpackDecoder:
    """Finds msgpack arrays in a stream, with two kept unpackers of which it uses one at a time."""

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._extensions = extensions = Extensions()
        self._lists = self._make_unpacker(True, extensions.ext)
        self._tuples: msgpack.Unpacker | None = None  # made for the first batch that is worth it: each takes 45 to 300 KiB
        self._unpacker = self._lists  # in use; the positions are in what this one was fed
        self._suited = self._lists  # for what came last, and likely for what comes next
        self._singles = 0  # messages since the last batch
        self._fed = 0  # bytes in all
        self._end = 0  # of the last message that is whole
        self._frame: Frame | None = None  # has just begun

    def _make_unpacker(self, use_list: bool, ext_hook: Callable[[int, bytes], Any]) -> msgpack.Unpacker:
        return msgpack.Unpacker(
            use_list=use_list,
            strict_map_key=False,
            ext_hook=ext_hook,
            object_pairs_hook=build_map,
            read_size=_BUFFER,
            timestamp=3,
            **_limits(max(self._max_message, LONGEST_BATCH)),
            max_buffer_size=self._max_message + _SPARE,
        )

    def decode(self, data: bytes | bytearray | memoryview) -> Iterator[Decoded]:
        """Yield each message that `data` completes. *Raises:* `ProtocolError`."""
        unpacker, tell = self._unpacker, self._unpacker.tell
        self._fed += len(data)
        try:
            unpacker.feed(data)
            for message in unpacker:
                start, self._end = self._end, tell()
                yield self._checked(message, self._end - start)
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
                fed = self._fed = self._fed + len(data)
                unpacker.feed(data)
                for message in unpacker:
                    count += 1
                    start, end = end, unpacker.tell()
                    try:
                        destination = find(message[0])
                    except _NO_MESSAGE:
                        destination = None
                    if destination is not None and message.__class__ is list and (
                        end - start <= self._extensions.short or self._is_flat(message, end - start)
                    ):
                        del message[0]
                        destination.put(tuple(message))
                    else:
                        further, stop = self._dispatch_more(message, end - start, destination, find, other)
                        count += further
                        if stop:
                            self._end = end
                            return count if self._frame is None else count + self._begin_frame(fed - end, find, other)
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
            self._check_part(unpacker.tell() - end)
        return count

    def _is_flat(self, message: list[Any], size: int) -> bool:
        """Whether a message that is not short can be delivered as it is: what refers to nothing is not a container."""
        return size <= self._max_message and (not get_referents(*message) or problem_of(message) is None)

    def _dispatch_more(
        self, message: Any, size: int, destination: Any, find: Find, other: Other
    ) -> tuple[int, object]:
        """What is not a list for a port; returns how many messages there were besides the first, and whether to stop."""
        if destination is None and message and message.__class__ in _ARRAYS and message[0].__class__ is int:
            if message[0]:
                self._frame = read_frame(message, self._max_message)
                if self._frame is not None:
                    return 0, True
            return self._dispatch_batch(message, size, find, other)
        if destination is not None:
            in_tuples = self._unpacker is self._tuples and message.__class__ is tuple
            plain = in_tuples and size <= self._max_message and is_flat(map(type, message))
            self._singles += 1
            if not plain or self._singles > _FEW:
                self._suited = self._lists
            if plain:
                destination.put(message[1:])
                return 0, False
        checked = self._checked(message, size)
        if destination is None or isinstance(checked, Undecodable):
            return 0, other(checked)
        del checked[0]
        destination.put(tuple(checked))
        return 0, False

    def _dispatch_batch(
        self, batch: list[Any] | tuple[Any, ...], size: int, find: Find, other: Other
    ) -> tuple[int, object]:
        name, messages, plain = split_batch(batch, size, self._max_message)
        self._singles, further = 0, len(messages) - 1
        if not plain:
            self._suited = self._lists
            self._extensions.short = SHORT
        elif further >= _FEW:
            if self._tuples is None:
                self._tuples = self._make_unpacker(False, self._extensions.ext_among_tuples)
            self._suited = self._tuples
        destination = find(name)
        if destination is not None and (plain or not any(isinstance(message, Undecodable) for message in messages)):
            destination.put_all(messages)
            return further, False
        for message in messages:
            if isinstance(message, Undecodable):
                stop = other(message)
            elif destination is not None:
                stop = destination.put(message)
            else:
                stop = other([name, *message])
            if stop:
                return further, True
        return further, False

    def _begin_frame(self, rest: int, find: Find, other: Other) -> int:
        frame, self._frame = self._frame, None
        assert frame is not None
        data = frame.take(memoryview(self._change(rest)))
        if not frame.is_whole:
            other(frame)
            return 0
        return self.finish(frame, data, find, other)

    def finish(self, frame: Frame, data: memoryview, find: Find, other: Other) -> int:
        """Deliver the message of a frame that is whole, then dispatch `data`; returns how many messages were in that.

        *Raises:* as `dispatch`.
        """
        try:
            message = self._extensions.unpack_frame(frame)
        except _MALFORMED as error:
            raise ProtocolError(f"bad msgpack: {error or type(error).__name__}") from error
        checked = self._checked(message, frame.size)
        destination = None if isinstance(checked, Undecodable) else find(checked[0])
        if destination is not None:
            destination.put(tuple(checked[1:]))
        elif other(checked):
            return 0
        return self.dispatch(data, find, other) if data else 0

    def _change(self, rest: int) -> bytes:
        """Go over to the unpacker that suits, at the end of a message; returns the `rest` of the bytes, to feed it with."""
        data: bytes = self._unpacker.read_bytes(rest)
        self._unpacker = self._suited
        self._fed = self._end = self._unpacker.tell()
        return data

    def _check_part(self, size: int) -> None:
        """Check how much of a message, or of a batch, is there before the rest."""
        if size > LONGEST_BATCH and size > self._max_message:
            raise ProtocolError(f"a message over the limit of {self._max_message} bytes")

    def _checked(self, message: Any, size: int) -> Decoded:
        """The message as it was sent."""
        if size > self._max_message:
            raise ProtocolError(f"a message of {size} bytes, which is over the limit of {self._max_message}")
        try:
            if self._unpacker is self._tuples:
                message = restore(message)
            elif size > self._extensions.short:
                problem = problem_of(message)
                if problem is not None:
                    raise NotRestored(problem)
        except NotRestored as error:
            self._extensions.short = SHORT
            head = check_head(list(message[:1]) if message.__class__ in (list, tuple) else message)
            return Undecodable(head[0], str(error))
        return check_head(message)
