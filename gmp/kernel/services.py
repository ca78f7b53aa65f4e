"""Services: functions that a node starts, each in a port of its own, in the order of the setting ``services``.

All are looked for before the first is started, so that a name that is wrong starts nothing. A service is the body of its
port and lives as long: it ends when the function returns (unless it has set handlers), raises, or the port is killed.
That is logged; who wants to act on it (`gmp run`) monitors the ports in `Node.services`. Here the own configuration names
the function, not a peer: it may be any function, and its module is imported.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gmp.errors import ConfigError
from gmp.ports.monitors import Reason
from gmp.ports.port import Port
from gmp.servicelist import Service
from gmp.showing import show_reason

if TYPE_CHECKING:
    from gmp.kernel.host import Host

log = logging.getLogger("gmp")


def start_services(host: Host, services: Sequence[Service]) -> list[tuple[str, Port]]:
    """Start them; return the name and port of each. *Raises:* `ConfigError` for one that is not there; none is started."""
    functions = [find(service) for service in services]
    return [_start(host, service, function) for service, function in zip(services, functions, strict=True) if function]


def find(service: Service) -> Callable[..., Any] | None:
    """The function of a service, None for a mere module; imports it. *Raises:* `ConfigError`."""
    if not isinstance(service.function, str):
        return service.function
    module_name, _, name = service.function.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"service {service}: module {module_name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not name:
        return None
    function: Any = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"service {service}: module {module_name!r} has no function {name!r}")
    found: Callable[..., Any] = function
    return found


def _start(host: Host, service: Service, function: Callable[..., Any]) -> tuple[str, Port]:
    def body(port: Port) -> None:
        function(port, *service.args, **service.keywords)

    def ended(*reason: Any) -> None:
        _tell(host.id, str(service), reason)

    port = host.ports.make(body)
    host.monitor(port, ended)
    return str(service), port


def _tell(node_id: str, name: str, reason: Reason) -> None:
    if not reason:
        log.info("%s: service %s ended", node_id, name)
    elif reason[0] == "leaving":
        log.debug("%s: service %s ended with its node", node_id, name)
    else:
        log.error("%s: service %s died: %s", node_id, name, show_reason(reason[:2]))
