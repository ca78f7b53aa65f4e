"""What a node reports about itself: four requests to the node port, for `gmp top`, `gmp trace`, `gmp doctor` and dashboards.

``gmp.info R`` is answered with R + a table of what hardly changes and of its connections, ``gmp.stats R`` with R + a
table of figures, ``gmp.families R`` with R + a table of the families that this node's directory has, each with its
number of entries and whether its keys are ports (only a seed knows them all), ``gmp.ports R`` with R + a table of the
fullest ports and of the last abnormal deaths. Like every request they come from authenticated peers only; nothing of
what they report is secret.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import gevent

from gmp.kernel.activity import runs
from gmp.outside import clock
from gmp.ports.history import Death
from gmp.ports.port import Port
from gmp.showing import describe
from gmp.version import VERSION

if TYPE_CHECKING:
    from gmp.kernel.host import Host

BUSIEST = 3  # ports that are named
LISTED = 200  # ports that are listed one by one
MOST_TEXT = 4000  # characters of one part of a reason, or of a message


class Inspection:
    """The figures of one node."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._began = clock.monotonic()

    def info(self) -> dict[str, Any]:
        """What hardly changes, and who is connected. Times are in seconds."""
        host = self._host
        backbone = host.mesh.backbone
        return {
            "node_id": host.id,
            "incarnation": host.incarnation,
            "version": VERSION,
            "python": sys.version.split()[0],
            "gevent": gevent.__version__,
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "binds": host.network.announced(),
            "seed": backbone.is_global,
            "master": backbone.master,
            "time": clock.time(),
            "uptime": clock.monotonic() - self._began,
            "allow_eval": host.settings.allow_eval,
            "tls": host.settings.cert is not None,
            "connections": self._connections(),
        }

    def _connections(self) -> list[dict[str, Any]]:
        kept = ("address", "gmp", "busy", "relay", "tls", "transport")
        return [
            {"node_id": node_id, **{key: figures[key] for key in kept if key in figures}}
            for node_id, figures in self._host.stats()["peers"].items()
            if figures["state"] == "up"
        ]

    def stats(self) -> dict[str, Any]:
        """`Node.stats` and the mailboxes."""
        return {**self._host.stats(), **self.mailboxes(), "uptime": clock.monotonic() - self._began}

    def mailboxes(self) -> dict[str, Any]:
        """Messages that wait in all ports, the most that ever waited in one that lives, and the fullest ports now."""
        ports = [port for port in self._host.ports.by_name.values() if isinstance(port, Port)]
        waiting = sorted(((len(port), port.id) for port in ports), reverse=True)
        return {
            "waiting": sum(count for count, _ in waiting),
            "mailbox_peak": max((port.peak for port in ports), default=0),
            "fullest": [[port_id, count] for count, port_id in waiting[:BUSIEST] if count],
        }

    def families(self) -> dict[str, dict[str, Any]]:
        """The families that the directory has here."""
        return {
            name: {"entries": len(items), "group": all("#" in key for key in items)}
            for name in self._host.mesh.backbone.families()
            if not name.startswith("'") and (items := self._host.mesh.backbone.items(name))
        }

    def ports(self) -> dict[str, Any]:
        """The fullest ports one by one, how many more there are, and the last abnormal deaths."""
        groups = self._groups()
        ports = [port for port in self._host.ports.by_name.values() if isinstance(port, Port)]
        ports.sort(key=lambda port: (-len(port), -port.peak, port.name))
        told = [
            {
                "name": port.name,
                "runs": runs(port),
                "groups": groups.get(port.id, []),
                "waiting": len(port),
                "peak": port.peak,
            }
            for port in ports[:LISTED]
        ]
        deaths = [_told(death) for death in reversed(self._host.ports.deaths.last())]
        return {"ports": told, "more": max(0, len(ports) - LISTED), "deaths": deaths}

    def _groups(self) -> dict[str, list[str]]:
        """The groups that each of this node's ports is in."""
        found: dict[str, list[str]] = {}
        for family in self._host.mesh.backbone.families():
            for key in self._host.mesh.backbone.items(family):
                if "#" in key:
                    found.setdefault(key, []).append(family)
        return found


def _told(death: Death) -> dict[str, Any]:
    """A death as plain text: what a reason or message holds need not travel."""
    return {
        "time": death.time,
        "port": death.port,
        "reason": [describe(part, MOST_TEXT) for part in death.reason],
        "history": [describe(message, MOST_TEXT) for message in death.history],
    }
