"""Services on the default node, or on a given one: `expose` and `remote`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gmp.errors import ConfigError
from gmp.face import core
from gmp.ids import is_peer_node_id, is_port_id
from gmp.kernel.node import Node, core_of, family_name
from gmp.later import later
from gmp.mesh.groups import Group
from gmp.objects.calling import Settings
from gmp.objects.faults import declared
from gmp.objects.members import Members, OnePort, Target
from gmp.objects.reader import WINDOW
from gmp.objects.remote import Remote, describe
from gmp.objects.retry import Retry
from gmp.objects.source import MOST_CREDIT
from gmp.ports.port import Port
from gmp.showing import show_typed

if TYPE_CHECKING:
    import inspect

    from gmp.kernel.core import Core
    from gmp.objects import limits, rights, service, typed
    from gmp.objects import methods as methods_of
else:
    limits, methods_of = later("gmp.objects.limits"), later("gmp.objects.methods")
    rights, service, typed = later("gmp.objects.rights"), later("gmp.objects.service"), later("gmp.objects.typed")

__all__ = ["SERVICE", "WINDOW", "describe", "expose", "remote", "signature_of"]
SERVICE = {"gmp.service": 1}  #: the value of a service as a member of a group: the version of its messages


def expose(
    thing: Any,
    name: str | None = None,
    *,
    methods: Iterable[str] | None = None,
    concurrency: int = 1,
    max_waiting: int = 1000,
    max_streams: int = 100,
    errors: Iterable[type[Exception]] = (),
    allow_nodes: Iterable[str] | None = None,
    check: bool = False,
    node: Node | None = None,
) -> Port:
    """Let others call the methods of an object; return the port that answers. Kill that to end it.

    `thing` is any object, or a module. Its public methods are answered, and those marked with `gmp.method` or `gmp.stream`;
    `methods` names those that are, and no others. With `name` the port joins the group of that name, so that any number of
    nodes can serve it. `concurrency` calls run at a time, each in a greenlet of its own; up to `max_waiting` wait; more
    are refused (`CallRefused`). Streams, of which `max_streams` may be open, run beside the calls. Exceptions of the types
    in `errors` are raised as themselves by callers that declare them, too; all others as `RemoteError`. `allow_nodes`: the
    IDs of the nodes that may call, or patterns such as ``"web-*"``; others get `NotAllowed` (None: all). `check` (extra
    ``typed``): arguments are made and checked by the annotations of the methods, dataclasses, enums, named tuples and
    msgspec's structs among them, and results become plain data. `node`: another
    node than the default one. *Raises:* `ConfigError`. *Blocks:* never.

    >>> import gmp
    >>> class Calculator:
    ...     def add(self, a, b=0):
    ...         return a + b
    >>> service = gmp.expose(Calculator(), "calculators of an example")
    >>> calculator = gmp.remote("calculators of an example")
    >>> calculator.add(1, b=2)
    3
    """
    home = core() if node is None else core_of(node)
    home.check_open()
    group = None if name is None else Group(family_name(name), home.place)
    bounds = limits.Limits(concurrency, max_waiting, max_streams)
    allowed = None if allow_nodes is None else rights.Rights(home.id, allow_nodes)
    answered = methods_of.methods_of(thing, methods, check)
    exposed = service.Service(home, thing, answered, name or "", bounds, declared(errors), allowed)
    if group is not None:
        try:
            exposed.join(group, SERVICE)
        except BaseException:
            exposed.port.kill()
            raise
    return exposed.port


def remote(
    target: Port | str,
    name: str | None = None,
    *,
    timeout: float | None = 30.0,
    errors: Iterable[type[Exception]] = (),
    retry: Retry | None = None,
    near: bool = False,
    window: int = WINDOW,
    interface: type | None = None,
    node: Node | None = None,
) -> Remote:
    """Return an object whose methods are those of a service: ``gmp.remote("jobs").add(1, b=2)``.

    `target` is the name of a group, of which each call goes to a live member; a port or port ID; or, with `name`, the ID of
    a node whose member of that group is meant. `timeout`: seconds for each call, and for each item of a stream (None:
    without end); a call that a method makes ends with that method's own time, too. `errors`: exception types that are
    raised as themselves. `retry`: when a call is made again. `near`: a member of this node goes first, then one of this
    host. `window`: how many items of a stream may be on their way. `interface` (extra ``typed``): a class whose
    annotated methods say of what types results and items are made. `node`: another node than the default one.

    A method raises what it raised there; `CallTimeout`; `PortDied` when the service died, and nobody knows how far the
    call has come; `CallRefused` when it was not begun; `WaitTimeout` when the group has no member.
    *Raises:* `ConfigError`. *Blocks:* never.

    >>> import gmp
    >>> class Clock:
    ...     def ticks(self, count):
    ...         yield from range(count)
    >>> clock = gmp.remote(gmp.expose(Clock()))
    >>> list(clock.ticks(3))
    [0, 1, 2]
    """
    find: Callable[[], Core] = core if node is None else lambda: core_of(node).latest()
    for what, seconds in (("timeout", timeout),):
        if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0):
            raise ConfigError(f"{what} {seconds!r}: expected seconds, or None")
    if retry is not None and not isinstance(retry, Retry):
        raise ConfigError(f"retry {show_typed(retry)}: expected a gmp.Retry, or None")
    if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= MOST_CREDIT:
        raise ConfigError(f"window {window!r}: expected a whole number from 1 to {MOST_CREDIT}")
    types = None if interface is None else typed.Interface(interface)
    timeout = None if timeout is None else float(timeout)
    usual = retry is None and types is None and timeout != 0.0
    where = _target(target, name, near, find)
    one = where.name if isinstance(where, OnePort) else None
    return Remote(Settings(find, where, timeout, declared(errors), retry, window, types, {}, set(), usual, one))


def _target(target: Any, name: str | None, near: bool, find: Callable[[], Core]) -> Target:
    def place() -> Any:
        return find().place()

    if name is not None:
        if not isinstance(target, str) or not is_peer_node_id(target):
            raise ConfigError(f"{show_typed(target)} is not a node ID: with a name, it is the node that has it")
        return Members(find, Group(family_name(name), place), target, near)
    if isinstance(target, Port):
        return OnePort(target.id)
    if isinstance(target, str) and is_port_id(target):
        return OnePort(target)
    return Members(find, Group(family_name(target), place), None, near)


def signature_of(told: Any) -> inspect.Signature | None:
    """Return the signature in what `describe` has of a method; None: it has none, or it cannot be read."""
    return methods_of.signature_of(told)
