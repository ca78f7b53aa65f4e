"""Runs: messages in a row for one port as one msgpack array, ``[0, name, [element, …], …]``, between gmp nodes.

The name goes over the wire once, and a decoder delivers thousands of messages by a few calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import msgpack

from gmp.errors import ProtocolError
from gmp.wire.nesting import CONTAINERS, check_nesting

KEY, VALUE = "runs", "1"  #: in the greeting of who can read them
LONGEST_ROW = 8 * 1024  #: bytes of a message that goes in a run: larger ones gain nothing
LONGEST_RUN = 128 * 1024  #: bytes of a run that must be read, whatever the limit on messages is


def longest_row(framing: str, keys: Mapping[str, str], max_message: int) -> int:
    """Bytes of a message that may go in a run to a side that reads `framing` and whose greeting has these `keys`; -1: none.

    That is without the name, for which there is room under `max_message` too.
    """
    return min(LONGEST_ROW, max_message // 2) if framing == "msgpack" and keys.get(KEY) == VALUE else -1


def run_head(name: str, count: int) -> bytes:
    """What comes before the packed elements of `count` messages to the port `name`."""
    packed_name: bytes = msgpack.packb(name)
    return b"\xdd%b\x00%b" % ((2 + count).to_bytes(4, "big"), packed_name)


def split_run(run: list[Any], size: int, max_message: int) -> tuple[str, list[tuple[Any, ...]]]:
    """The name and the messages of a run of `size` bytes, as it was decoded. *Raises:* `ProtocolError`."""
    if run[0] != 0 or len(run) < 3 or run[1].__class__ is not str:
        raise ProtocolError(f"a message must begin with a port name, or be a run, [0, name, …], not {run[:3]!r:.60}")
    if size > LONGEST_RUN and size > max_message:
        raise ProtocolError(f"a run of {size} bytes, which is over the limit of {LONGEST_RUN}")
    name = run[1]
    del run[:2]
    if set(map(type, run)) != {list}:
        raise ProtocolError(f"a run must hold arrays: {run!r:.60}…")
    if not CONTAINERS.isdisjoint(map(type, chain.from_iterable(run))):
        wrong = next(filter(None, map(check_nesting, run)), None)
        if wrong is not None:
            raise ProtocolError(wrong)
    return name, list(map(tuple, run))
