"""What a message costs, counted instead of timed: bytecodes of gmp that run for it, and blocks of memory it keeps.

Counts hardly vary from run to run and machine to machine, so a change that makes the hot path heavier shows at once. They
do vary between versions of Python, so each has budgets of its own: ``python -m tests.hot_path`` prints what is counted
now, ``python -m tests.hot_path --record`` writes it into the file of budgets.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import gevent
from gevent.event import Event

import gmp
from gmp import face

COUNT = 200  # messages in a row
BUDGETS = Path(__file__).with_name("hot_path_budgets.json")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
GMP = str(Path(gmp.__file__).parent)


class Counter:
    """Bytecodes of gmp that were executed, in whatever greenlet."""

    def __init__(self) -> None:
        self.executed = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count meanwhile."""
        if sys.version_info >= (3, 12):
            yield from self._by_monitoring()
        else:
            yield from self._by_tracing()

    def _by_tracing(self) -> Iterator[None]:
        before = sys.gettrace()

        def trace(frame: FrameType, event: str, _arg: Any) -> Any:
            if not frame.f_code.co_filename.startswith(GMP):
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            self.executed += event == "opcode"
            return trace

        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(before)

    def _by_monitoring(self) -> Iterator[None]:
        monitoring = sys.monitoring
        tool = next(number for number in range(6) if monitoring.get_tool(number) is None)

        def executed(code: CodeType, _offset: int) -> Any:
            if not code.co_filename.startswith(GMP):
                return monitoring.DISABLE
            self.executed += 1
            return None

        monitoring.use_tool_id(tool, "hot path")
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, executed)
        monitoring.restart_events()
        monitoring.set_events(tool, monitoring.events.INSTRUCTION)
        try:
            yield
        finally:
            monitoring.set_events(tool, 0)
            monitoring.register_callback(tool, monitoring.events.INSTRUCTION, None)
            monitoring.free_tool_id(tool)


class Rig:
    """Two nodes that are connected, and ports of each kind on the far one."""

    def __init__(self) -> None:
        self.far = gmp.Node("far", binds=["127.0.0.1:0"], secret="guard").start()
        # what it sends to a node that nobody knows need not hold up its end
        self.near = gmp.Node("near", binds=[], seeds=self.far.binds, secret="guard", leave_timeout=0.1).start()
        self.near.wait_up("far", timeout=20)
        self.done = Event()

    def close(self) -> None:
        """Close the nodes."""
        self.near.close()
        self.far.close()

    def counting_body(self, node: gmp.Node) -> gmp.Port:
        """A port with a body that counts `COUNT` messages, again and again."""

        def body(port: gmp.Port) -> None:
            for number, _message in enumerate(port, 1):
                if number % COUNT == 0:
                    self.done.set()

        return node.port(body)

    def counting_handler(self, node: gmp.Node) -> gmp.Port:
        """The same with a handler."""
        port, count = node.port(), 0

        @port.on("tag")
        def tag(_value: int) -> None:
            nonlocal count
            count += 1
            if count % COUNT == 0:
                self.done.set()

        return port

    def send_all(self, port_id: gmp.Port | str, send: Callable[..., None] | None = None) -> None:
        """Send `COUNT` messages and wait until they are counted."""
        send = send or self.near.send
        self.done.clear()
        for value in range(COUNT):
            send(port_id, "tag", value)
        self.done.wait(20)

    @contextmanager
    def near_as_default(self) -> Iterator[None]:
        """`gmp.send` is the near node's meanwhile."""
        before = face._default
        face._use(self.near)
        try:
            yield
        finally:
            face._use(before)

    def send_all_by_default(self, port_id: gmp.Port | str) -> None:
        """The same by `gmp.send`, which takes ways of its own."""
        with self.near_as_default():
            self.send_all(port_id, gmp.send)

    def call_all(self, port_id: str) -> None:
        """Call one after the other."""
        for value in range(COUNT):
            self.near.call(port_id, value)

    def call_all_at_once(self, port_id: str) -> None:
        """Call in 100 greenlets at a time."""
        for _ in range(COUNT // 100):
            gevent.joinall([gevent.spawn(self.near.call, port_id, value) for value in range(100)], raise_error=True)

    def adder(self, node: gmp.Node) -> gmp.Port:
        """A port that answers calls."""

        def body(port: gmp.Port) -> None:
            for value, reply in port:
                node.send(reply, value + 1)

        return node.port(body)

    def bounce(self, port: gmp.Port, other: gmp.Port) -> None:
        """`COUNT` messages from handler to handler, each sent when the one before has come."""
        left = COUNT

        def handle(_value: int, who: gmp.Port) -> None:
            nonlocal left
            left -= 1
            if left:
                gmp.send(who, "ball", left, other if who is port else port)
            else:
                self.done.set()

        port.on("ball", handle)
        other.on("ball", handle)
        self.done.clear()
        with self.near_as_default():
            gmp.send(port, "ball", left, other)
            self.done.wait(20)

    def make_and_kill(self, *, bodies: bool) -> None:
        """Ports that live shortly, in batches."""
        begun = 0

        def wait_for_one(port: gmp.Port) -> None:
            nonlocal begun
            begun += 1
            port.receive("stop")

        for number in range(50, COUNT + 1, 50):
            ports = [self.near.port(wait_for_one if bodies else None) for _ in range(50)]
            gevent.sleep(0)
            while bodies and begun < number:
                gevent.sleep(0)
            for port in ports:
                port.kill()
            gevent.sleep(0)


def scenarios(rig: Rig) -> dict[str, Callable[[], None]]:
    """What is counted, by name."""
    near_body_port, near_ports = rig.counting_body(rig.near), (rig.near.port(), rig.near.port())
    near_body, near_handler = rig.counting_body(rig.near).id, rig.counting_handler(rig.near).id
    far_body, far_handler = rig.counting_body(rig.far).id, rig.counting_handler(rig.far).id
    near_adder, far_adder = rig.adder(rig.near).id, rig.adder(rig.far).id
    return {
        "message to a body, local": lambda: rig.send_all(near_body),
        "message to a handler, local": lambda: rig.send_all(near_handler),
        "message to a body, local, by gmp.send": lambda: rig.send_all_by_default(near_body_port),
        "message from handler to handler, by gmp.send": lambda: rig.bounce(near_ports[0], near_ports[1]),
        "message to a body, remote": lambda: rig.send_all(far_body),
        "message to a body, remote, by gmp.send": lambda: rig.send_all_by_default(far_body),
        "message to a handler, remote": lambda: rig.send_all(far_handler),
        "call, local": lambda: rig.call_all(near_adder),
        "call, remote": lambda: rig.call_all(far_adder),
        "call, remote, of a hundred at once": lambda: rig.call_all_at_once(far_adder),
        "port made and killed": lambda: rig.make_and_kill(bodies=False),
        "port with a body made and killed": lambda: rig.make_and_kill(bodies=True),
    }


def bytecodes(rig: Rig) -> dict[str, float]:
    """Executed bytecodes for each message (call, port): the lesser of two runs, after one to warm up."""
    counts = {}
    for name, run in scenarios(rig).items():
        run()
        measured = []
        for _ in range(2):
            gevent.sleep(0)
            counter = Counter()
            with counter.counting():
                run()
            measured.append(counter.executed / COUNT)
        counts[name] = round(min(measured), 1)
    return counts


def blocks(rig: Rig) -> dict[str, float]:
    """Allocated blocks that each waiting message (idle port) keeps."""

    def kept(make: Callable[[], Any]) -> float:
        gc.collect()
        before = sys.getallocatedblocks()
        keep = make()
        gc.collect()  # lists that were freed are kept for the next ones until then
        count = sys.getallocatedblocks() - before
        del keep
        return round(count / COUNT, 2)

    def local() -> gmp.Port:
        port = rig.near.port()
        for value in range(1000, 1000 + COUNT):
            rig.near.send(port, "tag", value)
        return port

    def remote() -> gmp.Port:
        port = rig.far.port()
        for value in range(1000, 1000 + COUNT):
            rig.near.send(port.id, "tag", value)
        with gevent.Timeout(20):
            while len(port) < COUNT:
                gevent.sleep(0)
        return port

    def unsent() -> None:
        for value in range(1000, 1000 + COUNT):
            rig.near.send("nowhere#port", "tag", value)

    remote(), local()
    counts = {
        "message that waits in a mailbox, local": kept(local),
        "message that waits in a mailbox, remote": kept(remote),
        "idle port": kept(lambda: [rig.near.port() for _ in range(COUNT)]),
    }
    rig.near.send("nowhere#port")  # what is kept of the node besides
    return {**counts, "message that waits for a connection": kept(unsent)}


def measure() -> dict[str, dict[str, float]]:
    """All counts."""
    rig = Rig()
    try:
        return {"bytecodes": bytecodes(rig), "blocks": blocks(rig)}
    finally:
        rig.close()


def main() -> None:
    """Print the counts; ``--record`` writes them into the file of budgets."""
    counts = measure()
    print(json.dumps(counts, indent=2))
    if "--record" in sys.argv:
        budgets = json.loads(BUDGETS.read_text()) if BUDGETS.exists() else {}
        budgets[VERSION] = counts
        BUDGETS.write_text(json.dumps(budgets, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
