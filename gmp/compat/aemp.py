"""The names of AnyEvent::MP and Coro::MP on top of gmp, for porting Perl programs: ``from gmp.compat.aemp import *``.

Each function means what it means there, on the default node, where Python allows it; the page "Coming from AnyEvent::MP"
has them all in a table. What differs:

- ``$NODE`` and ``$SELF`` are functions: `NODE()` and `SELF()`; the latter is None where Perl's is undefined. So are
  ``%SEED_NODE``, ``%NODE_SEED``, ``$BINDS`` and ``$MASTER`` of the Kernel.
- What Perl returns as a list comes as a tuple, and an empty one where Perl returns an empty list: `cal`, `syncal`, `get`,
  `get_cond` do not raise when time is up. `grp_get` gives an empty list where Perl gives undef.
- A guard is an object with `cancel()`, usable in ``with``. It is not cancelled by going out of scope, unless `guard` made
  it so: ``kept = guard(mon(port, callback))``.
- A function that is spawned gets the arguments alone, as in Perl, when it is marked by `spawnable` of this module; one that
  is marked by `gmp.spawnable` gets the port before them.
- Handlers run in greenlets, one after another for each port, not in the event loop: they may block, and ``snd`` from one to
  the next does not recurse.
- Timeouts are in seconds, None for none.
- `configure` takes ``key, value`` pairs and keywords, of Perl's names and of gmp's.
- `psub` takes a function and returns one; `peval` returns what the function does, and None when it raised.

`catch` (of AnyEvent::MP::LogCatcher) and `connect_to` (of AnyEvent::MP::DataConn) are here too, and as in Perl not exported.
"""

from gmp.compat.configuring import configure
from gmp.compat.database import (
    db_del,
    db_family,
    db_keys,
    db_mon,
    db_reg,
    db_set,
    db_values,
    grp_get,
    grp_mon,
    grp_reg,
)
from gmp.compat.guards import guard
from gmp.compat.kernel import (
    BINDS,
    MASTER,
    NODE_SEED,
    SEED_NODE,
    catch,
    connect_to,
    eval_on,
    known_nodes,
    mon_nodes,
    node_is_up,
    snd_on,
    snd_to_func,
    up_nodes,
)
from gmp.compat.ports import (
    NODE,
    SELF,
    after,
    cal,
    kil,
    mon,
    mon_guard,
    node_of,
    peval,
    port,
    port_is_local,
    psub,
    rcv,
    snd,
    spawn,
    spawnable,
)
from gmp.compat.threads import get, get_cond, peval_async, port_async, rcv_async, syncal

EXPORT_OK = [BINDS, MASTER, NODE_SEED, SEED_NODE, catch, connect_to]  #: what ``import *`` leaves out
__all__ = [
    "NODE", "SELF", "after", "cal", "configure", "db_del", "db_family", "db_keys", "db_mon", "db_reg", "db_set", "db_values",
    "eval_on", "get", "get_cond", "grp_get", "grp_mon", "grp_reg", "guard", "kil", "known_nodes", "mon", "mon_guard",
    "mon_nodes", "node_is_up", "node_of", "peval", "peval_async", "port", "port_async", "port_is_local", "psub", "rcv",
    "rcv_async", "snd", "snd_on", "snd_to_func", "spawn", "spawnable", "syncal", "up_nodes",
]  # fmt: skip
