"""The end of a stream that has the items: a port, and a greenlet that takes an item whenever its reader has room for one.

*Idle*, until its reader opens it by the first ``more`` → *open*: each ``more`` is credit for so many items, and there are
never more of them on their way → *ended*: with the items, an exception, its reader or itself. Then the iterator is closed,
so the ``finally`` of a generator runs, in the greenlet in which it ran.

The reader is watched from the first ``more`` on, so its death, or the loss of its node, ends the stream at once.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent.event
from greenlet import GreenletExit

from gmp.errors import GmpError, MessageError
from gmp.objects import forms
from gmp.objects.context import Current, begin
from gmp.objects.faults import Declared, fault, untravelled
from gmp.outside import chance
from gmp.ports.monitors import Monitor
from gmp.ports.workers import ENDS_PROGRAM
from gmp.showing import show_typed

if TYPE_CHECKING:
    from gmp.kernel.host import Host

log = logging.getLogger("gmp")
MOST_CREDIT = 100_000  #: items that a reader may let be on their way
PLAIN = frozenset((type(None), bool, int, float, str, bytes, list, tuple, dict))  #: types that are known not to iterate


def is_iterator(value: object) -> bool:
    """Return True for what can be iterated over once, as a generator: it goes item by item, as it could not travel."""
    return type(value) not in PLAIN and hasattr(type(value), "__next__")


def any_iterator(args: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    """Return True if there is one among the arguments of a call."""
    if not keywords and PLAIN.issuperset(map(type, args)):  # one step for all of them, as in most calls
        return False
    return any(map(is_iterator, args)) or any(map(is_iterator, keywords.values()))


def _nothing() -> None:
    """The default of `ended`."""


class Source:
    """A stream, where its items are. `ended` is called, once, when it has."""

    def __init__(self, host: Host, items: Iterator[Any], name: str, call: Current, errors: Declared) -> None:
        self._host = host
        self._items: Iterator[Any] | None = items
        self._name = name
        self._call = call
        self._errors = errors
        self._credit = 0
        self._room = gevent.event.Event()
        self._reader = ""
        self._monitor: Monitor | None = None
        self.ended: Callable[[], None] = _nothing
        self.token = chance.token_hex(8)  #: who has it may read
        self.port = host.ports.make()
        self.port.on(forms.MORE, self._more)
        self.port.on(None, _ignore)
        self.port.own(self)

    def _more(self, count: Any = None, reader: Any = None, token: Any = None, *_: Any) -> None:
        """The reader has room for so many more. Nothing in it may raise."""
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            return
        if not self._reader:
            if token != self.token:
                return
            try:
                self._reader, _node_id = forms.reply_port(reader)
                self._monitor = self._host.watch(self._reader, lambda _: self.stop())
            except (forms.Malformed, GmpError):
                self.stop()
                return
            self.port.spawn(self._write)
        self._credit = min(self._credit + count, MOST_CREDIT)
        self._room.set()

    def _write(self) -> None:
        """Send the items, as far as there is credit."""
        begin(self._call)
        items, host, reader = self._items, self._host, self._reader
        assert items is not None
        what = f"an item of {self._name},"
        try:
            while True:
                while not self._credit:
                    self._room.clear()
                    self._room.wait()
                self._credit -= 1
                item = next(items, forms.END_OF_ITEMS)
                if item is forms.END_OF_ITEMS:
                    host.send(reader, forms.END)
                    return
                try:
                    send = host.send_tuple  # each time, as the node may begin to trace
                    send(reader, (forms.ITEM, item))
                except MessageError as error:
                    host.send(reader, *untravelled(error, f"{what} {show_typed(item)},"))
                    return
        except (GreenletExit, *ENDS_PROGRAM):
            raise
        except BaseException as error:
            with contextlib.suppress(GmpError):  # the node was closed meanwhile
                self._host.send_soon(reader, *fault(error, self._errors, partial(self._travels, reader)))
        finally:
            self._close_items()
            self.port.kill()

    def _travels(self, reader: str, value: Any) -> bool:
        try:
            self._host.check_message([reader], (value,))
        except GmpError:
            return False
        return True

    def _close_items(self) -> None:
        items, self._items = self._items, None
        close = getattr(items, "close", None)
        if close is None:
            return
        try:
            close()
        except Exception as error:  # the user's code
            log.error("the generator of %s failed when it was closed", self._name, exc_info=error)

    @property
    def open(self) -> bool:
        """True while it is read."""
        return bool(self._reader) and self.port.alive

    def stop(self) -> None:
        """End the stream. *Blocks:* never."""
        self.port.kill()

    def close(self) -> None:
        """The port is dead; a greenlet that writes closes the items by itself."""
        if self._monitor is not None:
            self._monitor.cancel()
        if not self._reader:
            self._close_items()
        self.ended()


def _ignore(*_: Any) -> None:
    """A message that no stream knows."""
