"""What nodes ask each other: the name of every request to a node port, its form, and the greeting key that admits it.

A node sends a request, or makes use of another addition to the protocol, only to a node whose greeting has the key that
`REQUESTS` or `ADDITIONS` gives for it; so a Perl node never sees one. `gmp.wire.admitting` holds every connection to that,
whoever sends; the layers above ask first, by ``admits``, where there is something else to do for a node that does not know.

No other file writes these names. `docs/protocol.md` has the same table, with what each request means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

AEMP, GMP = "2.02", "0.1"  #: since when: the version of AnyEvent::MP, or of gmp


class Key(NamedTuple):
    """A key of a greeting; `value` empty: whatever it has."""

    name: str
    value: str = ""


EVERYBODY = Key("2.02")  #: no key: each node knows it
OF_GMP = Key("gmp")
RUNS, CHUNKS, FRAMES = Key("runs", "1"), Key("chunks", "1"), Key("frames", "1")


class Request(NamedTuple):
    """A request to the node port. R is a reply message's beginning, the port ID first."""

    form: str  #: its arguments
    since: str  #: the version of AnyEvent::MP or gmp that brought it
    key: Key  #: of the greeting of who knows it


NOTHING = ""
MON1, MON0, KIL0, KIL1 = "mon1", "mon0", "kil0", "kil1"
SND, CAN, TIME, EVAL, DEVNULL = "snd", "can", "time", "eval", "devnull"
SPAWN = "AnyEvent::MP::_spawn"
LOGS = "AnyEvent::MP::LogCatcher::connect"
EXPECT, CONNECT = "AnyEvent::MP::DataConn::_expect", "AnyEvent::MP::DataConn::_connect"
G_GLOBAL, G_SLAVE, G_SET, G_UPD = "g_global", "g_slave", "g_set", "g_upd"
G_FIND, G_FOUND = "g_find", "g_found"
G_MON1, G_MON0, G_CHG1, G_CHG2 = "g_mon1", "g_mon0", "g_chg1", "g_chg2"
G_DB_FAMILY, G_DB_KEYS, G_DB_VALUES, G_REPLY = "g_db_family", "g_db_keys", "g_db_values", "g_reply"
HEARTBEAT, ALIVE = "gmp.heartbeat", "gmp.alive"
REFUSED, LEAVING = "gmp.refused", "gmp.leaving"
RELAY, PASSED = "gmp.relay", "gmp.passed"
ATTACH, UPDATE = "gmp.attach", "gmp.update"
SET, CLAIM, CHANGE, RELEASE, WANT = "gmp.set", "gmp.claim", "gmp.change", "gmp.release", "gmp.want"
INFO, STATS, FAMILIES, PORTS = "gmp.info", "gmp.stats", "gmp.families", "gmp.ports"
FOLLOW, TRACED, KEY = "gmp.follow", "gmp.traced", "gmp.key"

REQUESTS: dict[str, Request] = {
    NOTHING: Request("", AEMP, EVERYBODY),
    MON1: Request("port", AEMP, EVERYBODY),
    MON0: Request("port", AEMP, EVERYBODY),
    KIL0: Request("port reason…", AEMP, EVERYBODY),
    KIL1: Request("port reason…", AEMP, EVERYBODY),
    SND: Request("R", AEMP, EVERYBODY),
    CAN: Request("request R", AEMP, EVERYBODY),
    TIME: Request("R", AEMP, EVERYBODY),
    EVAL: Request("source R", AEMP, EVERYBODY),
    DEVNULL: Request("…", AEMP, EVERYBODY),
    SPAWN: Request("port function argument…", AEMP, EVERYBODY),
    LOGS: Request("version port level", AEMP, EVERYBODY),
    EXPECT: Request("ID port seconds function argument…", AEMP, OF_GMP),  # AnyEvent::MP 2.02 has it, and it never works
    CONNECT: Request("ID node", AEMP, OF_GMP),
    G_GLOBAL: Request("", AEMP, EVERYBODY),
    G_SLAVE: Request("[database]", AEMP, EVERYBODY),
    G_SET: Request("database", AEMP, EVERYBODY),
    G_UPD: Request("family set deleted", AEMP, EVERYBODY),
    G_FIND: Request("node", AEMP, EVERYBODY),
    G_FOUND: Request("node addresses", AEMP, EVERYBODY),
    G_MON1: Request("family", AEMP, EVERYBODY),
    G_MON0: Request("family", AEMP, EVERYBODY),
    G_CHG1: Request("family entries", AEMP, EVERYBODY),
    G_CHG2: Request("family set deleted", AEMP, EVERYBODY),
    G_DB_FAMILY: Request("family ID", AEMP, EVERYBODY),
    G_DB_KEYS: Request("family ID", AEMP, EVERYBODY),
    G_DB_VALUES: Request("family ID", AEMP, EVERYBODY),
    G_REPLY: Request("ID answer", AEMP, EVERYBODY),
    HEARTBEAT: Request("token", GMP, OF_GMP),
    ALIVE: Request("token", GMP, OF_GMP),
    REFUSED: Request("text", GMP, OF_GMP),
    LEAVING: Request("", GMP, OF_GMP),
    RELAY: Request("kind token to origin …", GMP, OF_GMP),
    PASSED: Request("token", GMP, OF_GMP),
    ATTACH: Request("incarnation counter database", GMP, OF_GMP),
    UPDATE: Request("counter family set deleted", GMP, OF_GMP),
    SET: Request("{owner: [incarnation, counter, database]}", GMP, OF_GMP),
    CLAIM: Request("owner incarnation counter database", GMP, OF_GMP),
    CHANGE: Request("owner incarnation counter family set deleted", GMP, OF_GMP),
    RELEASE: Request("owner incarnation counter ended", GMP, OF_GMP),
    WANT: Request("owner", GMP, OF_GMP),
    INFO: Request("R", GMP, OF_GMP),
    STATS: Request("R", GMP, OF_GMP),
    FAMILIES: Request("R", GMP, OF_GMP),
    PORTS: Request("R", GMP, OF_GMP),
    FOLLOW: Request("name seconds port", GMP, OF_GMP),
    TRACED: Request("carrier name element…", GMP, OF_GMP),
    KEY: Request("port R", GMP, OF_GMP),
}

REFUSAL = "refused= in the authentication line"
ROWS, PIECES, PAYLOADS = "runs", "chunks", "frames"
ADDITIONS: dict[str, Key] = {REFUSAL: OF_GMP, ROWS: RUNS, PIECES: CHUNKS, PAYLOADS: FRAMES}  #: those that are no requests

OWN = "gmp."  #: how the names of all gmp's own requests begin, those of later versions too
UP_NODES = "AnyEvent::MP::Kernel::up_nodes"  #: what ``aemp trace`` lets each node evaluate: whom it is connected with


def admits(keys: Mapping[str, str], name: str) -> bool:
    """Whether a node whose greeting has these `keys` knows the request or addition `name`.

    A request that is in neither table is an application's own, which any node may know, unless its name begins as gmp's do.
    """
    key = key_of(name)
    return key is EVERYBODY or (key.name in keys and key.value in ("", keys[key.name]))


def key_of(name: str) -> Key:
    """The greeting key that admits the request or addition `name`."""
    request = REQUESTS.get(name)
    if request is not None:
        return request.key
    return ADDITIONS.get(name) or (OF_GMP if name.startswith(OWN) else EVERYBODY)
