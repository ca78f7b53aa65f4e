"""What *every* framing of a node carries: for values that are not for one peer but for whoever comes.

The directory goes on from node to node, each time in the framing that those two use. A value that only msgpack carries would
keep Perl nodes from learning of anything else in the same report. A node that offers msgpack alone may share whatever that
carries.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gmp.errors import MessageError
from gmp.wire.framing import make_decoder, make_encoder

_SCALARS = frozenset((type(None), bool))


class Portable:
    """The values that all of `framings` carry, in at most half of what one message may have."""

    def __init__(self, framings: Iterable[str], max_message: int) -> None:
        most = max(1, max_message // 2)
        self._encoders = [make_encoder(framing, most) for framing in framings]
        self._msgpack = make_encoder("msgpack", most)
        self._decoder = make_decoder("msgpack", max_message)

    def copy(self, key: str, value: Any) -> Any:
        """`value` as others will see it: made of built-in values, of which nobody else has a part.

        *Raises:* `MessageError`, also when `key` cannot travel.
        """
        if type(value) in _SCALARS and key.isascii() and len(key) <= 1000:
            return value
        for encoder in self._encoders:
            try:
                encoder.encode("", (key, value))
            except MessageError as error:
                names = ", ".join(each.name for each in self._encoders)
                text = str(error).partition(": ")[2] or str(error)
                raise MessageError(f"{key[:80]!r}: {text}; others may read it in {names} (setting framings)") from error
        (message,) = self._decoder.decode(self._msgpack.encode("", (key, value)))
        assert isinstance(message, list)
        return message[2]
