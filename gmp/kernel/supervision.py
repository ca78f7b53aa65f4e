"""Supervisors: ports that start others, restart those that die, and stop all of them in order, as Erlang's do.

What is to be done is decided by small parts that know no port and no clock: `affected` (the strategy) and `RestartLimit`. A
`Supervisor` is the plan, and the body of a port: so a supervisor is a child like any other, and supervises supervisors.

A child is *running* (it has a port) or *not*. It goes from one to the other by `_start`, by its death, which comes as a
message with the number of that start, or by `_stop`. race: a death is on its way when the child is stopped or started
anew; its number is old then, and it is passed over.

Children end with their supervisor however that ends: it stops them in reverse order, also when it is killed (its greenlet
goes on until they are stopped, though its port is dead). A child on another node watches its supervisor from there, so
that it does not outlive a supervisor whose process is gone.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args

from gevent.event import Event

from gmp.errors import ConfigError, NotAllowed
from gmp.ids import is_peer_node_id
from gmp.kernel.spawning import function_name, resolve, spawnable
from gmp.outside import clock
from gmp.ports.monitors import Monitor, Reason
from gmp.ports.port import Port
from gmp.showing import show

if TYPE_CHECKING:
    from gmp.kernel.host import Host

log = logging.getLogger("gmp")
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
Restart = Literal["permanent", "transient", "temporary"]
MOST_SHOWN_REASON = 1000  # characters of a reason in the log
SHUTDOWN = "shutdown"  #: the reason of a child that its supervisor has stopped
_DEATH = object()  # the tag of the messages that report a child's death; no other node can send it


class Child:
    """What a supervisor starts: a body for a port of its own node, or a function for a spawned port of another one.

    `start` is a function `start(port, *args)`; with `node` it is one that that node may spawn, or its name
    ``"package.module:function"``. `restart`: ``"permanent"`` restarts it whenever it dies, ``"transient"`` when it
    dies abnormally, ``"temporary"`` never. To stop it the supervisor sends it the message `stop`, if one is given, waits up
    to `shutdown` seconds (None: without end), and then kills it with ``("shutdown",)``. `name` is what it is called in
    reasons and logs, else the function's. *Raises:* `ConfigError`.

    >>> import gmp
    >>> gmp.Child(print, "hello", restart="temporary")
    <Child print temporary>
    """

    __slots__ = ("args", "name", "node", "restart", "shutdown", "start", "stop")

    def __init__(
        self,
        start: Callable[..., Any] | str,
        *args: Any,
        node: str | None = None,
        name: str | None = None,
        restart: Restart = "permanent",
        stop: Iterable[Any] | None = None,
        shutdown: float | None = 5.0,
    ) -> None:
        if restart not in get_args(Restart):
            raise ConfigError(f"restart {restart!r}: expected 'permanent', 'transient' or 'temporary'")
        if shutdown is not None and (isinstance(shutdown, bool) or not isinstance(shutdown, int | float) or shutdown < 0):
            raise ConfigError(f"shutdown {shutdown!r}: expected seconds, or None")
        if node is None:
            if not callable(start):
                raise ConfigError(f"child {start!r}: expected a function, or the node that it is to be spawned on")
        else:
            if not isinstance(node, str) or not is_peer_node_id(node):
                raise ConfigError(f"child {start!r}: {node!r} is not a node ID")
            start = function_name(start)
        if isinstance(stop, str):
            raise ConfigError(f"stop {stop!r}: expected a message, such as ({stop!r},)")
        self.start = start
        self.args = args
        self.node = node
        self.name = name or (start if isinstance(start, str) else getattr(start, "__name__", type(start).__name__))
        self.restart = restart
        self.stop = None if stop is None else tuple(stop)
        self.shutdown = shutdown

    @classmethod
    def of(cls, given: Any) -> Child:
        """A child as `gmp.supervise` takes it: a `Child`, a function, or ``(node_id, function[, args])``."""
        if isinstance(given, Child):
            return given
        if isinstance(given, Supervisor):
            return cls(given, stop=("stop",), shutdown=None)
        if callable(given):
            return cls(given)
        if isinstance(given, tuple) and len(given) in (2, 3) and isinstance(given[0], str):
            return cls(given[1], *(given[2] if len(given) == 3 else ()), node=given[0])
        raise ConfigError(f"child {given!r}: expected a function, (node_id, function, args) or a gmp.Child")

    def restarts(self, reason: Reason) -> bool:
        """Whether it is to be started again after a death with that reason."""
        if self.restart != "transient":
            return self.restart == "permanent"
        return bool(reason) and not (type(reason[0]) is str and reason[0] == SHUTDOWN)  # a value may refuse to be compared

    def __repr__(self) -> str:
        return f"<Child {self.name}{'' if self.node is None else ' on ' + self.node} {self.restart}>"


def affected(strategy: Strategy, index: int, count: int) -> range:
    """Which of `count` children, in the order of their start, are started again when the one at `index` is."""
    if strategy == "one_for_all":
        return range(count)
    return range(index, count if strategy == "rest_for_one" else index + 1)


class RestartLimit:
    """At most `most` restarts within `period` seconds."""

    def __init__(self, most: int, period: float) -> None:
        self._most = most
        self._period = period
        self._times: deque[float] = deque()

    def reached(self, now: float) -> bool:
        """Note a restart at `now` (seconds); return whether it is one too many."""
        self._times.append(now)
        while self._times[0] <= now - self._period:
            self._times.popleft()
        return len(self._times) > self._most


class Supervisor:
    """A plan of supervision, and the body of a port that carries it out; see `gmp.supervise`. *Raises:* `ConfigError`."""

    def __init__(
        self,
        children: Iterable[Any],
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        period: float = 5.0,
        name: str = "supervisor",
    ) -> None:
        if strategy not in get_args(Strategy):
            raise ConfigError(f"strategy {strategy!r}: expected 'one_for_one', 'one_for_all' or 'rest_for_one'")
        if isinstance(max_restarts, bool) or not isinstance(max_restarts, int) or max_restarts < 0:
            raise ConfigError(f"max_restarts {max_restarts!r}: expected a whole number from 0 on")
        if isinstance(period, bool) or not isinstance(period, int | float) or not period > 0:
            raise ConfigError(f"period {period!r}: expected a number of seconds over 0")
        if isinstance(children, str) or not isinstance(children, Iterable):
            raise ConfigError(f"children {children!r}: expected a list of children")
        self.children = [Child.of(child) for child in children]
        self.strategy = strategy
        self.max_restarts = max_restarts
        self.period = period
        self.__name__ = name  # what a supervisor calls it as its child

    def __call__(self, port: Port) -> None:
        """Supervise, as the body of `port`. *Blocks:* until it is stopped, or gives up."""
        _Supervision(self, port).run()


class _Running:
    """A child's present run."""

    __slots__ = ("monitor", "number", "port_id")

    def __init__(self) -> None:
        self.port_id: str | None = None
        self.monitor: Monitor | None = None
        self.number = 0  # of this start


class _Supervision:
    """A supervisor at work."""

    def __init__(self, plan: Supervisor, port: Port) -> None:
        self._plan = plan
        self._port = port
        self._host: Host = port.ports.host
        self._limit = RestartLimit(plan.max_restarts, plan.period)
        self._running = [_Running() for _ in plan.children]
        self._starts = 0

    def run(self) -> None:
        """Start the children, and deal with what happens to them, until the end."""
        try:
            self._start(range(len(self._running)))
            for message in self._port:
                match message:
                    case (tag, int(index), int(number), *reason) if tag is _DEATH:
                        if self._running[index].number == number and not self._died(index, tuple(reason)):
                            return
                    case ("stop", *reply):
                        self._stop(range(len(self._running)))
                        self._reply(reply, "stopped")
                        return
                    case ("children", *reply):
                        children = zip(self._plan.children, self._running, strict=True)
                        self._reply(reply, [[child.name, run.port_id, child.restart] for child, run in children])
                    case _:
                        log.warning("supervisor %s: unknown message %s", self._port.id, show(message, 80))
        finally:
            self._stop(range(len(self._running)))

    def _reply(self, reply: list[Any], *message: Any) -> None:
        if len(reply) == 1 and isinstance(reply[0], Port | str):
            self._host.send_soon(reply[0], *message)

    def _died(self, index: int, reason: Reason) -> bool:
        """A child has died; return whether to go on."""
        child, run = self._plan.children[index], self._running[index]
        run.port_id = run.monitor = None
        if not child.restarts(reason):
            return True
        if self._limit.reached(clock.monotonic()):
            text = f"more than {self._plan.max_restarts} restarts within {self._plan.period} s"
            log.error("supervisor %s gives up: %s, the last of %s", self._port.id, text, child.name)
            self._stop(range(len(self._running)))
            self._port.kill("restart_limit", child.name, text, *reason)
            return False
        log.warning("supervisor %s restarts %s, which died of %s", self._port.id, child.name, show(reason[:2]))
        again = affected(self._plan.strategy, index, len(self._running))
        self._stop(again)
        self._start(i for i in again if i == index or self._plan.children[i].restart != "temporary")
        return True

    def _start(self, indices: Iterable[int]) -> None:
        host = self._host
        for index in indices:
            child, run = self._plan.children[index], self._running[index]
            self._starts += 1
            run.number = self._starts
            if not isinstance(child.start, str):
                run.port_id = host.ports.make(child.start, child.args).id
            elif "::" in child.start:  # a Perl function: that node has no `supervised`
                run.port_id = host.spawn(str(child.node), child.start, *child.args)
            else:
                run.port_id = host.spawn(str(child.node), supervised, self._port.id, child.start, *child.args)
            run.monitor = host.monitor(run.port_id, self._port, _DEATH, index, run.number)

    def _stop(self, indices: range) -> None:
        """Stop children, the last one first, each when the one before is gone."""
        for index in reversed(indices):
            child, run = self._plan.children[index], self._running[index]
            port_id, monitor = run.port_id, run.monitor
            run.port_id = run.monitor = None
            if port_id is None or self._host.closed:  # a node that closes kills its ports itself
                continue
            if monitor is not None:
                monitor.cancel()
            gone = Event()
            with self._host.monitor(port_id, lambda *_, gone=gone: gone.set()):
                if child.stop is not None:
                    self._host.send_soon(port_id, *child.stop)
                    gone.wait(child.shutdown)
                if not gone.is_set() and not self._host.closed:
                    self._host.kill(port_id, SHUTDOWN)
                    gone.wait()


@spawnable
def supervised(port: Port, supervisor: str, function: str, *args: Any) -> None:
    """What a supervisor spawns on another node: `function`, as a port that dies with its supervisor."""
    host: Host = port.ports.host
    try:
        init = resolve(function, host.settings.allow, for_spawn=True)
    except NotAllowed as error:
        port.kill("not_allowed", str(error))
        return
    host.monitor(supervisor, port)
    init(port, *args)
