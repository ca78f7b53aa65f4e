"""AnyEvent::MP's ports: making, receiving, monitoring, calling, spawning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import gmp
from gmp import Monitor, Port, Timer

Callback = Callable[..., Any]
LONGEST_TAG = 30  # characters of a tag in the reason of a port that had no callback for it

#: ports that have no default callback yet: the one they get with their first tagged one
_defaults: WeakKeyDictionary[Port, Callback] = WeakKeyDictionary()


def NODE() -> str:  # noqa: N802
    """The ID of the own node. *Blocks:* never."""
    return gmp.node().id


def SELF() -> Port | None:  # noqa: N802
    """The port whose code runs, or None. *Blocks:* never."""
    return gmp.current_port()


def current(what: str) -> Port:
    """The current port, for the function `what`. *Raises:* `GmpError` when there is none."""
    port = gmp.current_port()
    if port is None:
        raise gmp.GmpError(f"{what} needs a current port: call it in a body, a handler, or by psub or peval")
    return port


def own_port(port: Port | str) -> Port:
    """The live port of this node. *Raises:* `GmpError` when it is none."""
    found = _find_own(port)
    if found is None:
        raise gmp.GmpError(f"{port!r} is no live port of this node")
    return found


def _find_own(port: Port | str) -> Port | None:
    found = port if isinstance(port, Port) else gmp.node().find(port)
    return found if isinstance(found, Port) and found.alive else None


def node_of(port: Port | str) -> str:
    """The ID of the node that a port is on; of a node ID, itself. *Raises:* `ConfigError` for neither. *Blocks:* never."""
    return gmp.node_of(port)


def port_is_local(port: Port | str) -> bool:
    """Whether a port ID is one of the own node, whatever became of the port. *Blocks:* never."""
    return gmp.node_of(port) == NODE()


def port(callback: Callback | None = None) -> Port:
    """Make a port; with a callback all its messages go there. *Blocks:* never.

    Without one its messages wait, for `rcv_async` or `Port.receive`, until `rcv` sets the first callback for a tag: from
    then on a message without a callback kills it with ``("unhandled_message", text)``.

    >>> from gmp.compat import aemp
    >>> echo = aemp.port(lambda word, reply: aemp.snd(reply, "got", word))
    >>> aemp.syncal(5, echo, "hi")
    ('got', 'hi')
    """
    made = gmp.port()
    _defaults[made] = _unhandled
    return made if callback is None else rcv(made, callback)


def _unhandled(tag: Any = "", *_: Any) -> None:
    shown = "".join(sign if " " <= sign <= "~" else "." for sign in str(tag)[:LONGEST_TAG])
    current("rcv").kill("unhandled_message", f"no callback found for message '{shown}'")


def _ignore(*_: Any) -> None:
    """What a spawned port does with messages that it has no callback for."""


def snd(dest: Port | str, *message: Any) -> None:
    """Send a message; see `gmp.send`."""
    gmp.send(dest, *message)


def rcv(port: Port | str, *handlers: Any) -> Port:
    """Set callbacks, any number of them in any order, and return the port.

    ``callback``: what has no other goes to ``callback(*message)``; None changes nothing. ``tag, callback``: messages with
    that tag go to ``callback(*rest)``; a callback of None, or none at the end, removes it.

    *Raises:* `GmpError` when it is no live port of this node, or a callback cannot be called. *Blocks:* never.
    """
    own, waiting = own_port(port), list(handlers)
    while waiting:
        first = waiting.pop(0)
        if first is None:
            continue
        if callable(first):
            _defaults.pop(own, None)
            own.on(None, first)
            continue
        own.on(first, waiting.pop(0) if waiting else None)
        default = _defaults.pop(own, None)
        if default is not None:
            own.on(None, default)
    return own


def queue_messages(port: Port) -> None:
    """Let the messages of `port` that have no callback for their tag wait for whoever receives them."""
    _defaults.pop(port, None)
    port.on(None, None)


def mon(target: Port | str, *action: Any) -> Monitor:
    """Monitor a port, or a node; the four forms of `gmp.monitor`. Returns a guard.

    When `action` names a port of this node that is dead, nobody is told. *Raises:* `GmpError`. *Blocks:* never.
    """
    if not action:
        action = (current("mon with one argument"),)
    told = action[0]
    if isinstance(told, Port | str) and port_is_local(told) and _find_own(told) is None:
        return gmp.monitor(target, _ignore)
    return gmp.monitor(target, *action)


class _Kept:
    """References that are let go of together; what can be cancelled is, as a Perl watcher ends when it is freed."""

    def __init__(self, references: tuple[Any, ...]) -> None:
        self._references = references

    def let_go(self) -> None:
        references, self._references = self._references, ()
        for reference in references:
            cancel = getattr(reference, "cancel", None)
            if callable(cancel):
                cancel()


class PortGuard:
    """What `mon_guard` returns: `cancel()` stops the monitoring and lets go of the references."""

    def __init__(self, monitor: Monitor, kept: _Kept) -> None:
        self._monitor, self._kept = monitor, kept

    @property
    def active(self) -> bool:
        """Whether the port lives, as far as this node knows, and nothing was cancelled."""
        return self._monitor.active

    def cancel(self) -> None:
        """Stop, and let go; nothing when that was done. *Blocks:* never."""
        self._monitor.cancel()
        self._kept.let_go()

    def __enter__(self) -> PortGuard:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


def mon_guard(target: Port | str, *references: Any) -> PortGuard:
    """Keep `references` until `target` dies; those with a `cancel` method (timers, monitors, guards) are cancelled then.

    Returns a guard, which does the same when cancelled. *Blocks:* never.
    """
    kept = _Kept(references)
    return PortGuard(gmp.monitor(target, lambda *reason: kept.let_go()), kept)


def kil(port: Port | str, *reason: Any) -> None:
    """Kill a port; see `gmp.kill`. In its own code what follows is still done, up to where it would wait."""
    gmp.kill(port, *reason)


def psub(function: Callback) -> Callback:
    """`function`, to be run as the current port whoever calls it; what it raises kills the port. *Blocks:* never.

    *Raises:* `GmpError` without a current port.
    """
    return current("psub").wrap(function)


def peval(port: Port | str, function: Callback, *args: Any) -> Any:
    """Run ``function(*args)`` as `port` and return what it does; an exception kills the port, and None is returned."""
    return own_port(port).run(function, *args)


def cal(dest: Port | str, *message: Any) -> Port:
    """``cal(dest, *message, callback[, timeout])``: send the message with a reply port behind it.

    ``callback(*reply)`` is called once, without arguments when time is up or, without a timeout, when `dest` dies. Returns
    the reply port. *Raises:* `GmpError` without a callback. *Blocks:* never.
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
            gmp.after(0, callback, *answer)  # not in the dead port's greenlet, which gets no further than a switch

    reply.on(None, finish)
    if timeout is None:
        reply.own(gmp.monitor(dest, lambda *reason: finish()))
    else:
        reply.own(gmp.after(timeout, finish))
    gmp.send(dest, *sent, reply)
    return reply


def after(seconds: float, action: Any, *message: Any) -> Timer:
    """In `seconds` call `action()`, or send `message` when it is a port; see `gmp.after`."""
    return gmp.after(seconds, action, *message)


def spawnable(function: Callback) -> Callback:
    """Let other nodes spawn `function` with `spawn` of this module: it gets the arguments alone, and asks `SELF()`.

    It sets callbacks by `rcv(SELF(), …)`, or a thread by `rcv_async`; the port of one that does neither ends with it.
    *Raises:* `GmpError` for what is no function of a module. *Blocks:* never.
    """

    def run(port: Port, *args: Any) -> Any:
        _defaults[port] = _ignore
        return function(*args)

    run.__name__, run.__qualname__, run.__module__ = function.__name__, function.__qualname__, function.__module__
    return gmp.spawnable(run)


def spawn(node: Port | str, function: str | Callback, *args: Any) -> str:
    """Make a port on `node`, or on the node of that port, that runs the function of that name; return its ID.

    ``"::name"`` is a function of the program itself, on this node and on gmp nodes that are connected; Perl's names are for
    Perl nodes. *Raises:* as `gmp.spawn`. *Blocks:* never.
    """
    node_id = gmp.node_of(node)
    if isinstance(function, str) and function.startswith("::") and _runs_gmp(node_id):
        function = f"__main__:{function[2:]}"
    return gmp.spawn(node_id, function, *args)


def _runs_gmp(node_id: str) -> bool:
    return node_id == NODE() or gmp.node().stats()["peers"].get(node_id, {}).get("gmp", False)
