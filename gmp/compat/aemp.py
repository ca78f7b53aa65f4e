"""The names of AnyEvent::MP and Coro::MP on top of gmp, for porting Perl programs: ``from gmp.compat.aemp import *``.

Each function means what it means there, on the default node, where Python allows it. What differs:

- ``$NODE`` and ``$SELF`` are functions: `NODE()` and `SELF()`; the latter is None where Perl's is undefined.
- What Perl returns as a list comes as a tuple, and an empty one where Perl returns an empty list: `cal`, `syncal`, `get`,
  `get_cond` do not raise when time is up. `grp_get` gives an empty list where Perl gives undef.
- A guard is an object with `cancel()`. It is not cancelled by going out of scope.
- A function that is spawned gets the arguments alone, as in Perl, when it is marked by `spawnable` of this module; one that
  is marked by `gmp.spawnable` gets the port before them.
- Handlers run in greenlets, one after another for each port, not in the event loop: they may block, and ``snd`` from one to
  the next does not recurse.
- Timeouts are in seconds, None for none.
- `configure` takes Perl's names too: ``nodeid``, and pairs of ``key, value``.
- `psub` takes a function and returns one; `peval` returns what the function does, and None when it raised.
- `mon_guard` lets go of the references at the port's death; what they hold ends when nobody else refers to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gmp
from gmp import Monitor, Port, Timer

__all__ = [
    "NODE", "SELF", "after", "cal", "configure", "get", "get_cond", "grp_get", "grp_mon", "grp_reg", "kil", "mon",
    "mon_guard", "peval", "peval_async", "port", "port_async", "psub", "rcv", "rcv_async", "snd", "spawn",
    "spawnable", "syncal",
]  # fmt: skip

Callback = Callable[..., Any]


def NODE() -> str:  # noqa: N802
    """The ID of the own node. *Blocks:* never."""
    return gmp.node().id


def SELF() -> Port | None:  # noqa: N802
    """The port whose code runs, or None. *Blocks:* never."""
    return gmp.current_port()


def _self(what: str) -> Port:
    port = gmp.current_port()
    if port is None:
        raise gmp.GmpError(f"{what} needs a current port: call it in a body, a handler, or by psub or peval")
    return port


def _own(port: Port | str) -> Port:
    found = port if isinstance(port, Port) else gmp.node().ports.find(port)
    if not isinstance(found, Port):
        raise gmp.GmpError(f"{port!r} is no live port of this node")
    return found


def configure(*profile_and_pairs: Any, nodeid: str | None = None, **settings: Any) -> gmp.Node:
    """Start the own node: ``configure(profile, key, value, …)``, or keywords; see `gmp.configure`."""
    profile, pairs = None, profile_and_pairs
    if len(pairs) % 2:
        profile, *pairs = pairs  # type: ignore[assignment]
    given = {**dict(zip(pairs[::2], pairs[1::2], strict=True)), **settings}
    if nodeid is not None or "nodeid" in given:
        given["node_id"] = given.pop("nodeid", nodeid)
    return gmp.configure(profile, **given)


def port(callback: Callback | None = None) -> Port:
    """Make a port; with a callback all its messages go there. *Blocks:* never.

    >>> from gmp.compat import aemp
    >>> echo = aemp.port(lambda word, reply: aemp.snd(reply, "got", word))
    >>> aemp.syncal(5, echo, "hi")
    ('got', 'hi')
    """
    made = gmp.port()
    return made if callback is None else rcv(made, callback)


def snd(dest: Port | str, *message: Any) -> None:
    """Send a message; see `gmp.send`."""
    gmp.send(dest, *message)


def rcv(port: Port | str, *handlers: Any) -> Port:
    """``rcv(port, callback)``: what has no other handler goes to ``callback(*message)``. ``rcv(port, tag, callback, …)``:
    messages with that tag go to ``callback(*rest)``; a callback of None removes it. Returns the port.

    *Raises:* `GmpError` when it is no live port of this node. *Blocks:* never.
    """
    return _receive(port, handlers, lambda own, callback: callback)


def rcv_async(port: Port | str, *handlers: Any) -> Port:
    """As `rcv`, but each message's callback runs in a greenlet of its own, so that they may overlap."""

    def apart(own: Port, callback: Callback) -> Callback:
        return lambda *message: own.spawn(callback, *message)

    return _receive(port, handlers, apart)


def _receive(port: Port | str, handlers: tuple[Any, ...], way: Callable[[Port, Callback], Callback]) -> Port:
    own = _own(port)
    if len(handlers) % 2:
        handlers = (None, handlers[0], *handlers[1:])
    for tag, callback in zip(handlers[::2], handlers[1::2], strict=True):
        own.on(tag, None if callback is None else way(own, callback))
    return own


def mon(target: Port | str, *action: Any) -> Monitor:
    """Monitor a port, or a node; the four forms of `gmp.monitor`. Returns a guard."""
    return gmp.monitor(target, *action)


def mon_guard(target: Port | str, *references: Any) -> Monitor:
    """Keep `references` until `target` dies. Returns a guard, which lets go of them when cancelled."""
    return gmp.monitor(target, lambda *reason, kept=references: None)


def kil(port: Port | str, *reason: Any) -> None:
    """Kill a port; see `gmp.kill`."""
    gmp.kill(port, *reason)


def psub(function: Callback) -> Callback:
    """`function`, to be run as the current port whoever calls it; what it raises kills the port. *Blocks:* never."""
    return _self("psub").wrap(function)


def peval(port: Port | str, function: Callback, *args: Any) -> Any:
    """Run ``function(*args)`` as `port` and return what it does; an exception kills the port, and None is returned."""
    return _own(port).run(function, *args)


def peval_async(port: Port | str, function: Callback, *args: Any) -> Any:
    """Run ``function(*args)`` as `port` in a greenlet of its own; returns what it can be joined by. *Blocks:* never."""
    return _own(port).spawn(function, *args)


def port_async(function: Callback | None = None, *args: Any) -> Port:
    """Make a port that runs ``function(*args)`` in a greenlet of its own and dies normally when that returns.

    Without a function it is a plain port. *Blocks:* never.
    """
    return gmp.port() if function is None else gmp.port(lambda port: function(*args))


def cal(dest: Port | str, *message: Any) -> Port:
    """``cal(dest, *message, callback[, timeout])``: send the message with a reply port behind it.

    ``callback(*reply)`` is called once, without arguments when time is up or, without a timeout, when `dest` dies. Returns
    the reply port. *Blocks:* never.
    """
    timeout: float | None = None
    if message and not callable(message[-1]):
        *rest, timeout = message
        message = tuple(rest)
    if not message or not callable(message[-1]):
        raise gmp.GmpError("cal: expected a destination, a message, a callback, and perhaps a timeout")
    *sent, callback = message
    reply = gmp.port()

    def finish(*answer: Any) -> None:
        if reply.alive:  # the first outcome counts
            reply.kill()
            gmp.node().defer(callback, *answer)  # not in the dead port's greenlet, which gets no further than a switch

    reply.on(None, finish)
    if timeout is None:
        reply.own(gmp.monitor(dest, lambda *reason: finish()))
    else:
        reply.own(gmp.after(timeout, finish))
    gmp.send(dest, *sent, reply)
    return reply


def syncal(timeout: float | None, dest: Port | str, *message: Any) -> tuple[Any, ...]:
    """Send the message with a reply port behind it and return the reply: empty when time is up or `dest` is dead.

    *Blocks:* until then, at most `timeout` seconds.
    """
    try:
        return gmp.call(dest, *message, timeout=timeout)
    except (gmp.CallTimeout, gmp.PortDied):
        return ()


def get(tag: Any, timeout: float | None = None) -> tuple[Any, ...]:
    """Take the next message of the current port with that tag, without it; empty when time is up.

    *Blocks:* until there is one, at most `timeout` seconds.
    """
    try:
        return _self("get").receive(tag, timeout=timeout)
    except gmp.ReceiveTimeout:
        return ()


def get_cond(condition: Callable[..., Any], timeout: float | None = None) -> tuple[Any, ...]:
    """Take the next message of the current port for which ``condition(*message)`` is true, whole; empty when time is up.

    *Blocks:* until there is one, at most `timeout` seconds.
    """
    try:
        return _self("get_cond").receive_if(condition, timeout=timeout)
    except gmp.ReceiveTimeout:
        return ()


def after(seconds: float, action: Any, *message: Any) -> Timer:
    """In `seconds` call `action()`, or send `message` when it is a port; see `gmp.after`."""
    return gmp.after(seconds, action, *message)


def spawnable(function: Callback) -> Callback:
    """Let other nodes spawn `function` with `spawn` of this module: it gets the arguments alone, and asks `SELF()`."""

    def run(port: Port, *args: Any) -> Any:
        return function(*args)

    run.__name__, run.__qualname__, run.__module__ = function.__name__, function.__qualname__, function.__module__
    return gmp.spawnable(run)


def spawn(node: str, function: str | Callback, *args: Any) -> str:
    """Make a port on `node` that runs the function of that name there, and return its ID. *Blocks:* never."""
    return gmp.spawn(node, function, *args)


class _Member:
    """A port's place in a group, as a guard."""

    def __init__(self, group: gmp.Group, port: Port | str) -> None:
        self._group, self._port = group, port

    def cancel(self) -> None:
        """Leave the group."""
        self._group.leave(self._port)


def grp_reg(group: str, port: Port | str) -> Any:
    """Put a port of this node into a group. Returns a guard. *Blocks:* never."""
    joined = gmp.group(group)
    joined.join(port)
    return _Member(joined, port)


def grp_get(group: str) -> list[str]:
    """The IDs of the ports in a group. *Blocks:* never."""
    return list(gmp.group(group).members())


def grp_mon(group: str, callback: Callable[[list[str], list[str], list[str]], Any]) -> Any:
    """Call ``callback(ports, added, removed)`` when ports come and go, first when there is one. Returns a guard."""
    seen = False

    def changed(members: Mapping[str, Any], added: list[str], _: list[str], removed: list[str]) -> None:
        nonlocal seen
        seen = seen or bool(members)
        if seen and (added or removed):
            callback(list(members), list(added), list(removed))

    return gmp.group(group).monitor(changed)
