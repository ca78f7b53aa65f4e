"""pykka: actors in one process, each with a thread of its own."""

from __future__ import annotations

import threading
import time
from typing import Any

import pykka

from benchmarks.programs.measure import emit, emit_rate, main, now, resident, scaled


class Counter(pykka.ThreadingActor):
    """Counts down, then sets the event."""

    def __init__(self, left: int, done: threading.Event) -> None:
        super().__init__()
        self._left, self._done = left, done

    def on_receive(self, message: Any) -> None:
        """One message."""
        self._left -= 1
        if not self._left:
            self._done.set()


class Player(pykka.ThreadingActor):
    """Sends the ball back until it has been played often enough."""

    def __init__(self, done: threading.Event) -> None:
        super().__init__()
        self._done = done

    def on_receive(self, message: Any) -> None:
        """The ball."""
        tag, other, left = message
        if left:
            other.tell((tag, self.actor_ref, left - 1))
        else:
            self._done.set()


def one_way() -> None:
    """W1."""
    count, done = scaled(200_000), threading.Event()
    actor = Counter.start(count, done)
    start = now()
    for value in range(count):
        actor.tell(("tag", value))
    done.wait()
    emit_rate(count, now() - start)


def ping_pong() -> None:
    """W2."""
    count, done = scaled(30_000), threading.Event()
    left, right = Player.start(done), Player.start(done)
    start = now()
    left.tell(("ball", right, 2 * count))
    done.wait()
    emit_rate(count, now() - start, unit="rtt/s")


def actors() -> None:
    """W7."""
    count, done = scaled(2_000), threading.Event()
    start = now()
    for _ in range(count):
        Counter.start(1, done).stop()
    emit_rate(count, now() - start, unit="create+kill/s")
    before = resident()
    kept = [Counter.start(1, done) for _ in range(count)]
    time.sleep(0.3)
    emit("bytes/port", (resident() - before) / len(kept))


if __name__ == "__main__":
    main({"W1": one_way, "W2": ping_pong, "W7": actors})
