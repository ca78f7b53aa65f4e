"""Following the messages of a port from elsewhere, for `gmp trace --messages`.

``gmp.follow NAME SECONDS FOLLOWER`` asks for it. The port FOLLOWER gets ``("following", "")``, or what forbids it;
then for each message ``("message", time, from, to, text)``, also for those that the port's own code sends; in the end
``("ended", why)``. Only a node with the setting `allow_follow` does it, as it shows others what is said here. It is
bounded in time and messages, and what is reported is shortened text.

race: the follower dies or is lost: that ends it. race: the port dies: that too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gmp.errors import NotAllowed
from gmp.outside import clock
from gmp.ports.following import follow
from gmp.ports.port import Port, current_port
from gmp.showing import show, show_text

if TYPE_CHECKING:
    from gmp.kernel.host import Host

LONGEST = 3600.0  # seconds
MOST_MESSAGES = 10_000
MOST_TEXT = 500  # characters of a message


class Following:
    """The followers of one node's ports."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._followers: dict[str, _Follower] = {}

    def request(self, name: Any, seconds: Any, follower: Any) -> None:
        """The request ``gmp.follow``."""
        host = self._host
        port = host.ports.by_name.get(name) if isinstance(name, str) else None
        problem = ""
        if not host.settings.allow_follow:
            problem = f"node {host.id} does not let its messages be followed: set allow_follow there"
        elif not isinstance(port, Port):
            problem = f"there is no port {host.id}#{show_text(name, 80)}"
        elif port.name in self._followers:
            problem = f"port {port.id} is already being followed"
        elif isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST:
            problem = f"{show(seconds, 80)} seconds: expected a number over 0, and {LONGEST:.0f} at most"
        if not isinstance(follower, str):
            raise NotAllowed(f"{show(follower, 80)} is not a port ID")
        host.send_soon(follower, "following", problem)
        if not problem and isinstance(port, Port):
            self._followers[port.name] = _Follower(host, port, seconds, follower, self._ended)
            host.watch_sends(self.sent)

    def sent(self, dest: Any, message: tuple[Any, ...]) -> None:
        """This node's code has sent a message."""
        sender = current_port()
        follower = None if sender is None else self._followers.get(sender.name)
        if follower is not None and sender is not None and str(dest) != sender.id:
            follower.tell(sender.id, str(dest), message)

    def _ended(self, follower: _Follower) -> None:
        self._followers.pop(follower.port.name, None)
        if not self._followers:
            self._host.watch_sends(None)


class _Follower:
    """One follower of one port."""

    def __init__(
        self, host: Host, port: Port, seconds: float, follower: str, ended: Callable[[_Follower], None]
    ) -> None:
        self.port = port
        self._host = host
        self._follower = follower
        self._ended = ended
        self._left = MOST_MESSAGES
        self._active = True
        self._unfollow = follow(port, self.tell)
        self._timer = host.after(seconds, self._end, "time is up")
        self._monitors = [
            host.monitor(port, lambda *reason: self._end("the port died")),
            host.monitor(follower, lambda *reason: self._end("the follower died")),
        ]

    def tell(self, sender: str, dest: str, message: tuple[Any, ...]) -> None:
        """Report a message to the follower."""
        if not self._active or self._follower in (sender, dest):
            return
        self._left -= 1
        self._host.send_soon(self._follower, "message", clock.time(), sender, dest, show(message, MOST_TEXT))
        if self._left == 0:
            self._end(f"{MOST_MESSAGES} messages were told")

    def _end(self, why: str) -> None:
        if not self._active:
            return
        self._active = False
        self._unfollow()
        self._timer.cancel()
        for monitor in self._monitors:
            monitor.cancel()
        self._ended(self)
        self._host.send_soon(self._follower, "ended", why)
