"""thespian: W1 on its simpleSystemBase, in one process; the rest on its multiprocTCPBase, a process for each actor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from thespian.actors import Actor, ActorSystem

from benchmarks.programs.measure import emit, emit_rate, emit_round_trips, free_port, main, now, scaled

WINDOW = 500  # messages sent before an acknowledgement is awaited: its transmit queue must not grow beyond that


class Sink(Actor):
    """Counts and echoes."""

    count = 0

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        """One message."""
        match message:
            case ("tag", _):
                self.count += 1
            case ("done",):
                self.send(sender, ("ack", self.count))
                self.count = 0
            case ("ping", value):
                self.send(sender, ("pong", value))


class Source(Actor):
    """Sends, and tells the asker how long it took."""

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        """What to do, or what the sink answers."""
        match message:
            case ("one way", sink, count, window):
                self.asker, self.sink, self.left, self.window = sender, sink, count, window
                self.start = now()
                self.send_window()
            case ("ack", _):
                if self.left:
                    self.send_window()
                else:
                    self.send(self.asker, now() - self.start)
            case ("round trips", sink, count):
                self.asker, self.sink, self.left, self.times = sender, sink, count, []
                self.ping()
            case ("pong", _):
                self.times.append(now() - self.start)
                self.left -= 1
                if self.left:
                    self.ping()
                else:
                    self.send(self.asker, self.times)

    def send_window(self) -> None:
        """As many as may be out at once."""
        for value in range(self.window):
            self.send(self.sink, ("tag", value))
        self.left -= self.window
        self.send(self.sink, ("done",))

    def ping(self) -> None:
        """Begin a round trip."""
        self.start = now()
        self.send(self.sink, ("ping", 0))


@contextlib.contextmanager
def system(base: str) -> Iterator[ActorSystem]:
    """An actor system that logs nothing."""
    capabilities = {} if base == "simpleSystemBase" else {"Admin Port": free_port()}
    made = ActorSystem(base, capabilities, logDefs={"version": 1, "root": {"level": 50, "handlers": []}})
    try:
        yield made
    finally:
        made.shutdown()


def one_way(base: str, count: int, window: int) -> None:
    """W1, W3."""
    count = max(1, scaled(count) // window) * window
    with system(base) as actors:
        source, sink = actors.createActor(Source), actors.createActor(Sink)
        actors.ask(source, ("one way", sink, window, window), 60)
        emit_rate(count, actors.ask(source, ("one way", sink, count, window), 100))


def round_trips() -> None:
    """W5."""
    with system("multiprocTCPBase") as actors:
        source, sink = actors.createActor(Source), actors.createActor(Sink)
        actors.ask(source, ("round trips", sink, 50), 60)
        emit_round_trips(actors.ask(source, ("round trips", sink, scaled(1_000)), 100))


def start_to_reply() -> None:
    """W8: with the start of its administrator's process."""
    start = now()
    with system("multiprocTCPBase") as actors:
        assert actors.ask(actors.createActor(Sink), ("ping", 1), 60) == ("pong", 1)
        emit("ms", 1e3 * (now() - start))


if __name__ == "__main__":
    from benchmarks.programs import thespian_peer as here  # actors are found by their module's name in other processes

    main(
        {
            "W1": lambda: here.one_way("simpleSystemBase", 20_000, 20_000),
            "W3": lambda: here.one_way("multiprocTCPBase", 10_000, WINDOW),
            "W5": here.round_trips,
            "W5@1core": here.round_trips,
            "W8": here.start_to_reply,
        }
    )
