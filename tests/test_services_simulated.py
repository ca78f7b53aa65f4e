"""Whatever ends the caller, the service, a node or the network, at every step of a call or a stream: nothing is left of it.

In virtual time: each course (a call, a stream down, a stream up) is run once undisturbed, which tells when its steps are;
as a simulation is the same each time, it is then run again for a strike at each of these moments, between each two of
them, and at some drawn by lot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import gevent
import pytest

import gmp
from gmp.testing import Simulation
from gmp.testing.leaks import running_greenlets

LOST_AFTER = 4.0
SETTLED = 2 * LOST_AFTER + 12  # virtual seconds; a monitor of calls is kept for ten after the last of them
WINDOW = 4
ROWS, UPLOADED = 12, 600  # more than there is credit for
BY_LOT = 4  # moments of each course that are drawn


class Course:
    """What happens on the two nodes, and when, in virtual time."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.steps: dict[str, float] = {}
        self.runs: list[str] = []  # the names of the nodes where something runs
        self.may_end = gevent.event.Event()  # once there was a strike, nothing ends by itself until it is set
        self.may_end.set()

    def at(self, step: str) -> None:
        self.steps.setdefault(step, self._sim.now)

    @contextmanager
    def running(self, where: str) -> Iterator[None]:
        self.runs.append(where)
        try:
            yield
        finally:
            self.runs.remove(where)


class Thing:
    """What is exposed."""

    def __init__(self, course: Course) -> None:
        self.course = course

    def ready(self) -> bool:
        return True

    def work(self) -> str:
        with self.course.running("there"):
            self.course.at("the method has begun")
            gevent.sleep(0.05)
            self.course.may_end.wait()
            self.course.at("the method has ended")
            return "done"

    def rows(self) -> Iterator[int]:
        with self.course.running("there"):
            self.course.at("the first row is asked for")
            for number in range(ROWS):
                if number == WINDOW:
                    self.course.at("there is credit again")
                yield number
                self.course.may_end.wait()
            self.course.at("the last row is on its way")

    def total(self, numbers: Iterable[int]) -> int:
        with self.course.running("there"):
            self.course.at("the method has begun")
            total = 0
            for count, number in enumerate(numbers):
                total += number
                self.course.may_end.wait()
                if count == 5:
                    self.course.at("some rows are read")
                    gevent.sleep(0.2)
                    self.course.at("the rest is read")
            self.course.at("the method has ended")
            return total


def call(course: Course, remote: Any) -> None:
    assert remote.work() == "done"


def down(course: Course, remote: Any) -> None:
    stream = remote.rows()
    course.at("the stream is open")
    assert [next(stream) for _ in range(WINDOW // 2 - 1)] == [0]
    course.at("a row is read")
    gevent.sleep(0.2)
    course.at("the rest is read")
    assert list(stream) == [*range(1, ROWS)]


def up(course: Course, remote: Any) -> None:
    def numbers() -> Iterator[int]:
        with course.running("here"):
            course.at("the first row is asked for")
            for number in range(UPLOADED):
                if number == 256:
                    course.at("there is credit again")
                yield number
                course.may_end.wait()
            course.at("the last row is on its way")

    assert remote.total(numbers()) == sum(range(UPLOADED))


COURSES: dict[Callable[[Course, Any], None], list[str]] = {
    call: ["begun", "the method has begun", "the method has ended", "the end"],
    down: [
        "begun",
        "the stream is open",
        "the first row is asked for",
        "a row is read",
        "the rest is read",
        "there is credit again",
        "the last row is on its way",
        "the end",
    ],
    up: [
        "begun",
        "the method has begun",
        "the first row is asked for",
        "some rows are read",
        "the rest is read",
        "there is credit again",
        "the last row is on its way",
        "the method has ended",
        "the end",
    ],
}


class Scene:
    """A service on one node, and a port of another one that is its caller."""

    def __init__(self, sim: Simulation, course: Callable[[Course, Any], None]) -> None:
        self.sim = sim
        self.course = Course(sim)
        self.there, self.here = sim.node("there"), sim.node("here")
        sim.settle()
        self.service = gmp.expose(Thing(self.course), node=self.there)
        self.remote = gmp.remote(self.service.id, node=self.here, timeout=None, window=WINDOW)
        self.go = gevent.event.Event()
        self.caller = self.here.port(lambda port: self._calls(port, course))
        assert self.remote.ready()
        self.kept = next(iter(self.there._core.draining._drained))
        sim.run(SETTLED)
        self.before = {node.id: entries(node) for node in sim}
        self.greenlets = {node.id: greenlets(node) for node in sim}

    def _calls(self, port: gmp.Port, course: Callable[[Course, Any], None]) -> None:
        self.go.wait()
        with self.course.running("here"):
            self.course.at("begun")
            with contextlib.suppress(gmp.GmpError):
                course(self.course, self.remote)
                self.course.at("the end")
        port.receive("never")

    def check(self) -> None:
        """Nothing is left of the course on the nodes that live."""
        living = self.sim.living()
        assert not [where for where in self.course.runs if where in living]
        for node in (self.sim[name] for name in living):
            assert not entries(node) - self.before[node.id]
            assert greenlets(node) <= self.greenlets[node.id]
        if "there" in living:
            kept: Any = self.kept
            assert not any((kept._works, kept._places.waiting, kept._places, kept._sources))
            assert kept._timer is None
            assert not self.service.greenlets()
        if len(living) == 2:
            left = [one for one in running_greenlets() if in_objects(one)]
            assert not left, left


def entries(node: gmp.Node) -> set[tuple[str, ...]]:
    """What stands in the tables of a node, as far as calls and streams put anything there."""
    core = node._core
    found: set[tuple[str, ...]] = {("port", name) for name in core.ports.by_name}
    found |= {("id", name) for name in core.ports.by_id}
    found |= {("waits", name) for name in core.calls._waiting}
    found |= {("called", name) for name in core.calls.targets}
    for table in (core.monitors._watching, core.monitors._watched):
        found |= {("monitor", other, name) for other, names in table.items() for name in names if name}
    return found


def greenlets(node: gmp.Node) -> int:
    """How many run for the ports of a node."""
    return sum(len(port.greenlets()) for port in set(node._core.ports.by_name.values()) if isinstance(port, gmp.Port))


def in_objects(one: Any) -> bool:
    """Whether a greenlet is in the code of calls and streams."""
    frame = one.gr_frame
    while frame is not None:
        if "/gmp/objects/" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


def leave(scene: Scene, name: str) -> None:
    gevent.spawn(scene.sim[name].close)


STRIKES: dict[str, Callable[[Scene], Any]] = {
    "the caller is killed": lambda scene: scene.caller.kill("broken"),
    "the service is killed": lambda scene: scene.service.kill("broken"),
    "the caller's node crashes": lambda scene: scene.sim.crash("here"),
    "the service's node crashes": lambda scene: scene.sim.crash("there"),
    "the connection is reset": lambda scene: scene.sim.reset("here", "there"),
    "nothing passes": lambda scene: scene.sim.partition("here", "there"),
    "the caller's node vanishes": lambda scene: scene.sim.vanish("here"),
    "the service's node vanishes": lambda scene: scene.sim.vanish("there"),
    "the caller's node leaves": lambda scene: leave(scene, "here"),
    "the service's node leaves": lambda scene: leave(scene, "there"),
    "the connection is half closed": lambda scene: scene.sim.half_close("here", "there"),
    "nothing passes to the service": lambda scene: scene.sim.partition("here", "there", one_way=True),
    "nothing passes to the caller": lambda scene: scene.sim.partition("there", "here", one_way=True),
    "the caller's node stops": lambda scene: scene.sim.stop("here"),
    "the service's node stops": lambda scene: scene.sim.stop("there"),
}


NO_LOSS = ("the caller's node stops", "the service's node stops")  # too short to be one: the call goes on afterwards


def simulation() -> Simulation:
    return Simulation(7, latency=(0.01, 0.02), lost_after=LOST_AFTER, connect_timeout=LOST_AFTER, leave_timeout=1.0)


def undisturbed(course: Callable[[Course, Any], None]) -> dict[str, float]:
    """When each step of a course is, in seconds from its beginning on."""
    with simulation() as sim:
        scene = Scene(sim, course)
        scene.go.set()
        sim.run(SETTLED)
        scene.check()
        steps = scene.course.steps
    assert list(steps) == COURSES[course]
    return {step: moment - steps["begun"] for step, moment in steps.items()}


def moments(steps: dict[str, float], by: str) -> dict[float, str]:
    """The moments of the strikes, each with what it is."""
    found = {}
    names, times = list(steps), list(steps.values())
    for number, (name, moment) in enumerate(steps.items()):
        found[moment] = name
        if number:
            found[(moment + times[number - 1]) / 2] = f"between {names[number - 1]!r} and {name!r}"
    lots = Random(by)
    for _ in range(BY_LOT):
        found[lots.uniform(0, times[-1])] = "by lot"
    return found


def struck(course: Callable[[Course, Any], None], strike: str, moment: float) -> None:
    with simulation() as sim:
        scene = Scene(sim, course)
        scene.go.set()
        if moment:  # else before the caller has done anything
            sim.run(moment)
        scene.course.may_end.clear()
        STRIKES[strike](scene)
        sim.run(SETTLED)
        if strike not in NO_LOSS and "the end" not in scene.course.steps:
            scene.check()
        sim.heal()
        scene.course.may_end.set()
        sim.run(SETTLED)
        scene.check()
        if scene.service.alive and not scene.here.closed and not scene.there.closed:
            assert scene.remote.ready.call(timeout=20)
            sim.run(SETTLED)
            scene.check()


def strike_at(course: Callable[[Course, Any], None], strike: str, chosen: dict[float, str]) -> None:
    for moment, what in chosen.items():
        try:
            struck(course, strike, moment)
        except BaseException as error:
            error.add_note(f"{strike} {moment:.6f} s after the beginning: {what}")
            raise


by_course = pytest.mark.parametrize("course", COURSES, ids=lambda course: course.__name__)


@by_course
@pytest.mark.parametrize("strike", list(STRIKES)[:6])
def test_whatever_ends_in_a_step_nothing_is_left(strike: str, course: Callable[[Course, Any], None]) -> None:
    steps = moments(undisturbed(course), strike)
    strike_at(course, strike, {moment: what for moment, what in steps.items() if not moment or what.startswith("between")})


@pytest.mark.slow
@by_course
@pytest.mark.parametrize("strike", STRIKES)
def test_whatever_ends_at_any_moment_nothing_is_left(strike: str, course: Callable[[Course, Any], None]) -> None:
    strike_at(course, strike, moments(undisturbed(course), f"{strike}/{course.__name__}"))
