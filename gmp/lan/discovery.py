"""The seeds of a network on a LAN: of the nodes that announce themselves by mDNS, those that were started first.

Anybody on the LAN can announce anything, so an announcement counts only with a proof that its author has the secret. Who
repeats somebody else's makes nodes dial that one's addresses, and no more: the handshake decides who is there.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any

from gevent.lock import BoundedSemaphore

from gmp.config import Address, parse_advertised
from gmp.errors import ConfigError
from gmp.lan.mdns import Mdns, package

TYPE = "_gmp._tcp.local."
SEEDS = 5  #: how many of the nodes are seeds
SIGNED = ("lan", "node", "incarnation", "at")


class Lan:
    """One node on its LAN. `changed()` is called in the event loop when the seeds may be others."""

    def __init__(self, name: str, secret: bytes, loop: Any, changed: Callable[[], None]) -> None:
        self._name = name
        self._secret = secret
        self._bell = loop.async_(ref=False)  # the one thing of the loop that another thread may touch
        self._bell.start(changed)
        self._mdns: Mdns | None = None
        self._own: dict[str, str] = {}
        self._opening = BoundedSemaphore()
        self._closed = False

    @staticmethod
    def check() -> None:
        """*Raises:* `ConfigError` when zeroconf is not installed, and in a program that gevent has patched."""
        package()

    def seeds(self, node_id: str, incarnation: str, addresses: list[str]) -> list[Address]:
        """Return where the seeds listen, of which this node may be one; `addresses` are its own.

        *Blocks:* about a second the first time, as it announces this node then. *Raises:* `GmpError`.
        """
        with self._opening:
            if self._mdns is None and not self._closed:
                self._open(node_id, incarnation, [parse_advertised(text) for text in addresses])
        known = [self._own, *([] if self._mdns is None else self._mdns.found(TYPE))]
        nodes = {each["incarnation"]: each for each in known if self._is_right(each)}
        texts = [text for incarnation in sorted(nodes)[:SEEDS] for text in nodes[incarnation]["at"].split()]
        return list(dict.fromkeys(parse_advertised(text) for text in texts if _is_address(text)))

    def _open(self, node_id: str, incarnation: str, addresses: list[Address]) -> None:
        mdns = Mdns(addresses, self._ring)
        try:
            if addresses:
                self._own = {"lan": self._name, "node": node_id[:200], "incarnation": incarnation, "at": mdns.at}
                self._own["proof"] = self._proof(self._own)
            mdns.browse(TYPE)
            if addresses:
                mdns.announce(TYPE, incarnation, addresses[0].port, self._own)
        except BaseException:
            mdns.close()
            raise
        self._mdns = mdns

    def _ring(self) -> None:
        if not self._closed:
            self._bell.send()

    def _proof(self, properties: Mapping[str, str]) -> str:
        signed = "\n".join(["gmp lan", *(properties.get(key, "") for key in SIGNED)])
        return hmac.new(self._secret, signed.encode(), hashlib.sha3_256).hexdigest()

    def _is_right(self, properties: Mapping[str, str]) -> bool:
        return properties.get("lan") == self._name and hmac.compare_digest(
            self._proof(properties).encode(), properties.get("proof", "").encode()
        )

    def close(self) -> None:
        """Say goodbye. *Blocks:* for a moment."""
        self._closed = True
        with self._opening:
            mdns, self._mdns = self._mdns, None
        if mdns is not None:
            mdns.close()
        self._bell.close()

    def abandon(self) -> None:
        """In a child of `fork`: its thread is not inherited."""
        self._closed, self._mdns = True, None


def _is_address(text: str) -> bool:
    try:
        return parse_advertised(text).port != 0
    except ConfigError:
        return False
