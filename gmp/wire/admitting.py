"""The one place that every message passes on its way to a node: a request that it does not admit is not packed.

`gmp.wire.requests` has the table. Towards a node that admits all there is, the framing's encoder is used as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gmp.errors import MessageError
from gmp.wire.framing import Encoder
from gmp.wire.requests import OWN, REQUESTS, admits, key_of


class NotAdmitted(MessageError):
    """The message is a request that the node it is for does not know."""


def admitting(encoder: Encoder, keys: Mapping[str, str]) -> Encoder:
    """`encoder`, made to refuse what a node whose greeting has these `keys` does not admit."""
    return encoder if all(admits(keys, name) for name in REQUESTS) else AdmittingEncoder(encoder, keys)


class AdmittingEncoder:
    """An encoder for messages to a node that does not know each request. As it looks at names, messages go in no batches."""

    def __init__(self, encoder: Encoder, keys: Mapping[str, str]) -> None:
        self.name = encoder.name
        self.max_message = encoder.max_message
        self.check = encoder.check
        self._encoder = encoder
        self._keys = keys

    def pack(self, message: list[Any], /) -> bytes:
        """As `Encoder.pack`. *Raises:* `NotAdmitted`, too."""
        if not message[0]:
            self._look(message[1:2])
        return self._encoder.pack(message)

    def repack(self, destination: str, elements: list[Any]) -> bytes:
        """As `Encoder.repack`. *Raises:* `NotAdmitted`, too."""
        if not destination:
            self._look(elements[1:2])
        return self._encoder.repack(destination, elements)

    def encode(self, destination: str, message: tuple[Any, ...]) -> bytes:
        """As `Encoder.encode`. *Raises:* `NotAdmitted`, too."""
        if not destination:
            self._look(message[:1])
        return self._encoder.encode(destination, message)

    def _look(self, name: list[Any] | tuple[Any, ...]) -> None:
        text = name[0] if name else ""
        if isinstance(text, bytes):
            text = text.decode("latin-1")  # which is a text for Perl
        if isinstance(text, str) and not admits(self._keys, text):
            raise NotAdmitted(
                f"{text[:80]!r} is a request that the node it is for does not know:"
                f" its greeting has no key {key_of(text).name!r}" + (", it is no gmp node" if text.startswith(OWN) else "")
            )
