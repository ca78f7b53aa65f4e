"""Coro::MP: threads of ports, which take the messages they want. A thread is a greenlet."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import gmp
from gmp import Port
from gmp.compat.ports import Callback, current, own_port, queue_messages

_threaded: WeakSet[Port] = WeakSet()  # ports that have had a thread attached


def port_async(function: Callback | None = None, *args: Any) -> Port:
    """Make a port that runs ``function(*args)`` in a thread of its own and dies normally when that returns.

    Without a function the port has no callback: its messages wait. *Blocks:* never.
    """
    made = gmp.port()
    return made if function is None else rcv_async(made, function, *args)


def rcv_async(port: Port | str, function: Callback, *args: Any) -> Port:
    """Attach a thread to a port: it runs ``function(*args)`` soon, and `get` and `get_cond` in it take the port's messages.

    It gets all that `rcv` has no callback for by their tag. When it returns the port dies normally, when it raises the port
    dies of that, and it ends with the port. Returns the port.
    *Raises:* `GmpError` when it is no live port of this node, or has a thread. *Blocks:* never.

    >>> from gmp.compat import aemp
    >>> adder = aemp.rcv_async(aemp.port(), lambda: aemp.snd(aemp.get("reply to")[0], sum(aemp.get("numbers"))))
    >>> aemp.snd(adder, "numbers", 2, 3)
    >>> aemp.syncal(5, adder, "reply to")
    (5,)
    """
    own = own_port(port)
    if own in _threaded:
        raise gmp.GmpError(f"rcv_async: {own.id} has a thread already; expected a port without one")
    if not callable(function):
        raise gmp.GmpError(f"rcv_async: {function!r} cannot be run: expected a function")
    _threaded.add(own)
    queue_messages(own)
    own.spawn(_run_thread, own, function, args)
    if gmp.current_port() is own:
        own.on(_KEEP, _never)  # the function that was spawned here returns, and a port with handlers outlives that
    return own


_KEEP = object()  # a tag that no message has


def _never(*_: Any) -> None:
    """What messages with that tag go to."""


def _run_thread(port: Port, function: Callback, args: tuple[Any, ...]) -> None:
    function(*args)
    port.kill()


def get(tag: Any, timeout: float | None = None) -> tuple[Any, ...]:
    """Take the next message of the current port with that tag, without it; empty when time is up.

    *Raises:* `GmpError` without a current port. *Blocks:* until there is one, at most `timeout` seconds (0: look only).
    """
    try:
        return current("get").receive(tag, timeout=timeout)
    except gmp.ReceiveTimeout:
        return ()


def get_cond(condition: Callable[..., Any] | None = None, timeout: float | None = None) -> tuple[Any, ...]:
    """Take the next message of the current port for which ``condition(*message)`` is true, whole; empty when time is up.

    Without a condition: the next one. What the condition returns is called, if it can be, when the message was taken: with
    the message when it takes that, else without arguments.
    *Raises:* `GmpError` without a current port; what the condition raises. *Blocks:* until there is one, at most `timeout`
    seconds (0: look only).
    """
    found: Any = True

    def asked(*message: Any) -> Any:
        nonlocal found
        found = True if condition is None else condition(*message)
        return found

    try:
        message = current("get_cond").receive_if(asked, timeout=timeout)
    except gmp.ReceiveTimeout:
        return ()
    if callable(found):
        found(*(message if _takes(found, message) else ()))
    return message


def _takes(function: Callback, arguments: tuple[Any, ...]) -> bool:
    """Whether `function` takes so many arguments; one that does not tell is taken at its word."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def peval_async(port: Port | str | Callback, *function: Any) -> Any:
    """Run ``function(*args)`` as `port`, or as the current port when none is given, in a greenlet of its own.

    What it raises kills the port; it cannot `get`, as the port's messages are its thread's. Returns something to `join()`.
    *Raises:* `GmpError` when it is no live port of this node. *Blocks:* never.
    """
    if callable(port):
        return current("peval_async").spawn(port, *function)
    if not function:
        raise gmp.GmpError("peval_async: expected a function, behind the port it is to run as")
    return own_port(port).spawn(*function)


def syncal(timeout: float | None, dest: Port | str, *message: Any) -> tuple[Any, ...]:
    """Send the message with a reply port behind it and return the reply: empty when time is up or `dest` is dead.

    *Blocks:* until then, at most `timeout` seconds.
    """
    try:
        return gmp.call(dest, *message, timeout=timeout)
    except (gmp.CallTimeout, gmp.PortDied):
        return ()
