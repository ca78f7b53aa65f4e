"""AnyEvent::MP's distributed database, and the groups of version 1, which are families whose keys are ports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gmp
from gmp import Port
from gmp.compat.guards import Guard
from gmp.compat.ports import current
from gmp.wire.requests import SND

Callback = Callable[..., Any]
Items = dict[str, Any]
ASK_AGAIN = 30.0  # seconds that a master may take to answer before the question is put to whoever is it by then


def _key(subkey: Any) -> Any:
    """Perl's keys are strings, whatever is given: ports, numbers."""
    return str(subkey) if isinstance(subkey, Port | int | float) else subkey


def db_set(family: str, subkey: Any, value: Any = None) -> Guard:
    """Set an entry of this node. Returns a guard that deletes it.

    *Raises:* `ConfigError` for a family or key that cannot be one; as `Family.set`. *Blocks:* never.
    """
    gmp.family(family).set(_key(subkey), value)
    return Guard(lambda: db_del(family, subkey))


def db_del(family: str, *subkeys: Any) -> None:
    """Delete entries of this node; nothing for those it has not. *Blocks:* never."""
    entries = gmp.family(family)
    for subkey in subkeys:
        entries.delete(_key(subkey))


def db_reg(family: str, port: Port | str | None = None, value: Any = None) -> Guard:
    """Set an entry with the port (None: the current one) as its key, until the port dies. Returns a guard that deletes it.

    The port may be of another node, or a node ID. *Raises:* `GmpError`, `ConfigError`. *Blocks:* never.
    """
    registered = str(current("db_reg without a port") if port is None else port)
    monitor = gmp.monitor(registered, lambda *reason: db_del(family, registered))
    try:
        entry = db_set(family, registered, value)
    except gmp.GmpError:
        monitor.cancel()
        raise

    def clear() -> None:
        monitor.cancel()
        entry.cancel()

    return Guard(clear)


def _settle(node: gmp.Node) -> bool:
    """Wait until this node has heard what its master knows of all families it has asked for; False when it is closed.

    Connections keep their order: when the master has answered a later question, it has told of these families. A node that
    is a master, or knows no network, knows all there is. *Blocks:* until then, without end.
    """
    while node.started and node.settings.seeds and node.master != node.id:
        try:
            node.wait_up()
            master = node.master
            if master is not None:
                node.call(master, SND, timeout=ASK_AGAIN)
                return True
        except (gmp.PortDied, gmp.CallTimeout):
            continue  # race: it was lost meanwhile: the next one is told of these families, too
        except gmp.GmpError:
            if not node.closed:
                raise
    return not node.closed


def _query(name: str, callback: Callback, pick: Callable[[Items], Any]) -> None:
    node = gmp.node()
    family = node.family(name)

    def ask() -> None:
        if _settle(node):
            callback(pick(family.items()))

    node.after(0, ask)


def db_family(family: str, callback: Callback) -> None:
    """Call ``callback({subkey: value, …})``, once, with what the family holds. *Blocks:* never."""
    _query(family, callback, lambda items: items)


def db_keys(family: str, callback: Callback) -> None:
    """Call ``callback([subkey, …])``, once. *Blocks:* never."""
    _query(family, callback, list)


def db_values(family: str, callback: Callback) -> None:
    """Call ``callback([value, …])``, once, in the order of `db_keys`. *Blocks:* never."""
    _query(family, callback, lambda items: list(items.values()))


def db_mon(family: str, callback: Callback) -> Guard:
    """Call ``callback({subkey: value, …}, added, changed, deleted)`` with what the family holds, and after each change.

    The first call always comes, with all subkeys as added, also when there are none; calls never overlap. The entries are
    a read-only mapping, which Perl asks for, too. Returns a guard.
    *Raises:* `ConfigError` for what cannot be a family. *Blocks:* never.
    """
    node = gmp.node()
    watched = node.family(family)
    running: list[Any] = []
    wanted = True

    def start() -> None:
        if _settle(node) and wanted:
            running.append(watched.monitor(callback))

    def stop() -> None:
        nonlocal wanted
        wanted = False
        for subscription in running:
            subscription.cancel()

    node.after(0, start)
    return Guard(stop)


def grp_reg(group: str, port: Port | str) -> Guard:
    """Put a port into a group, until it dies: `db_reg`. Returns a guard. *Blocks:* never."""
    return db_reg(group, port)


def grp_get(group: str) -> list[str]:
    """The IDs of the ports in a group that this node knows by now. *Blocks:* never."""
    return list(gmp.group(group).members())


def grp_mon(group: str, callback: Callable[[list[str], list[str], list[str]], Any]) -> Guard:
    """Call ``callback(ports, added, deleted)`` with the ports of a group, and when they come and go. Returns a guard."""
    return db_mon(group, lambda items, added, changed, deleted: callback(list(items), list(added), list(deleted)))
