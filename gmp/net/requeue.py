"""Sending again, over a way that has come up, what was packed before its framing and the requests it admits were known.

race: a message is queued while the peer's framing is not known, and that framing cannot carry it. Had it been known, the
send would have raised: so that message alone is dropped, and logged.

Texts that go to Perl as their characters are plain ones in msgpack: a message that has such is kept besides (`Marked`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from gmp.errors import MessageError
from gmp.net.way import PeerWay
from gmp.showing import MOST_TOLD, portable_reason
from gmp.wire.admitting import NotAdmitted
from gmp.wire.framing import make_decoder
from gmp.wire.perl_strings import has_characters, marked
from gmp.wire.requests import KIL0, KIL1

log = logging.getLogger("gmp.net")
DEATHS = (KIL0, KIL1)  #: requests with a port's name and a reason


class Marked(bytes):
    """A packed message that has `Characters` in it; `message` has them, too."""

    message: tuple[Any, ...]


def with_marks(data: bytes, message: tuple[Any, ...], max_message: int) -> bytes:
    """Return `data`, which is `message` as msgpack, `Marked` if that has `Characters` in it."""
    if not has_characters(message):
        return data
    (decoded,) = make_decoder("msgpack", max_message).decode(data)
    assert isinstance(decoded, list)
    kept = Marked(data)
    kept.message = marked(tuple(decoded[1:]), message)
    return kept


def send_again(node_id: str, way: PeerWay, queue: list[bytes], max_message: int) -> int:
    """Pack what waited for `node_id` once more and send it over `way`; return how many messages could not be sent."""
    decoder = make_decoder("msgpack", max_message)
    unfit: list[MessageError] = []
    for data in queue:
        (decoded,) = decoder.decode(data)
        assert isinstance(decoded, list)  # they are our own
        message = data.message if isinstance(data, Marked) else tuple(decoded[1:])
        try:
            if decoded[0]:
                way.send(decoded[0], message)
            else:
                send_request(way.send, message, max_message)
        except MessageError as error:
            unfit.append(error)
    if unfit:
        unknown = isinstance(unfit[0], NotAdmitted)
        more = f", and {len(unfit) - 1} more" if len(unfit) > 1 else ""
        log.error(
            "node %s %s what was sent before it was connected: %s%s",
            node_id,
            "does not know" if unknown else f"reads {way.framing} only, which cannot carry",
            unfit[0],
            more,
        )
    return len(unfit)


def send_request(send: Callable[[str, tuple[Any, ...]], bool], request: tuple[Any, ...], max_message: int) -> None:
    """Send a request to the node port; the reason of a death is shortened until it fits. *Raises:* `MessageError`."""
    try:
        send("", request)
    except MessageError:
        if not request or request[0] not in DEATHS:
            raise
        send("", (*request[:2], *portable_reason(request[2:], min(MOST_TOLD, max_message // 16))))
