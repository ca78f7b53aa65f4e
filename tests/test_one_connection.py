"""The rule of the one connection, explored exhaustively: the code that runs (`Link`) in a model of two nodes and of TCP.

A state is two nodes and their connections with what is on the way. Every event that can happen next is tried from every
state: a message is sent, somebody dials, something arrives, a connection breaks, one end of it is forgotten while the
other notices nothing, a node restarts. The order in which different connections deliver is arbitrary.

Checked in every state: messages of one *epoch* (the time between two firings of the sender's monitors) arrive in order,
without a hole, and never at another incarnation than they began with; without a failure no monitor fires. At the end,
when nothing can happen any more: one connection that both take for up, nothing queued, all delivered. And from every
state such an end can be reached, so that nothing goes round in circles for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import pytest

from gmp.net.peerstate import Act, Do, Link, Verdict, is_arbiter, judge

GREETING, AUTH, NO_OP, END = ("greeting",), ("auth",), ("no-op",), ("end",)
MOST_CONNECTIONS = 4  # that are there at once; more dials wait


class Setting(NamedTuple):
    """What may happen in an exploration."""

    messages: int = 1  # of each side
    dials: int = 1  # of each side, besides those that a waiting message calls for
    failures: int = 0
    restarts: int = 0
    perl: bool = False  # the second node speaks Perl's rule
    forgets: bool = False  # a side forgets the other when it was idle for long
    clock_back: bool = False  # a restarted node's incarnation compares smaller than the one before
    kinds: tuple[str, ...] = ("break", "forget", "dial_fails")


class Wire:
    """One connection: for each side whether its end is open, and what is on the way to the other."""

    __slots__ = ("auth_sent", "claims", "deaf", "dialler", "number", "open", "way")

    def __init__(self, dialler: int, incarnations: list[int], number: int) -> None:
        self.dialler = dialler
        self.number = number  # at both sides: only what one process can have made is behind the end of the one before
        self.open = [True, True]
        # sent by 0, by 1; at the greeting the arbiter does nothing, so that it need not be seen to arrive there
        self.way: list[list[Any]] = [[GREETING], []]
        self.auth_sent = [False, False]
        self.claims = incarnations[::-1]  # what the other's greeting tells each side
        self.deaf = [False, False]  # that side hears nothing of the end until it writes

    def freeze(self) -> Hashable:
        return (
            self.dialler, *self.open, tuple(self.way[0]), tuple(self.way[1]), *self.auth_sent, *self.claims, *self.deaf
        )

    @classmethod
    def thaw(cls, frozen: Any, number: int) -> Wire:
        wire = cls.__new__(cls)
        wire.number = number
        wire.dialler = frozen[0]
        wire.open = [frozen[1], frozen[2]]
        wire.way = [list(frozen[3]), list(frozen[4])]
        wire.auth_sent, wire.claims, wire.deaf = list(frozen[5:7]), list(frozen[7:9]), list(frozen[9:11])
        return wire


class Side:
    """One node: the rule, and around it what `Network` and `Peer` do."""

    __slots__ = ("again", "count", "dials", "epoch", "fired", "incarnation", "link", "queue", "seen", "unsent")

    def __init__(self, incarnation: int, setting: Setting) -> None:
        self.incarnation = incarnation
        self.link: Link[int] = Link()
        self.queue: list[Any] = []
        self.unsent, self.dials = setting.messages, setting.dials
        self.epoch = self.count = self.fired = 0
        self.again = False  # a dial ended without a failure: the next one waits while a handshake is pending
        self.seen: Any = None  # incarnation, epoch and number of the last message received

    def freeze(self, name: dict[int | None, int | None], numbers: list[int]) -> Hashable:
        link = self.link
        earlier = sum(number < link.number for number in numbers)
        pending = tuple(sorted((name[key], value) for key, value in link.pending.items()))
        held = tuple((name[key], incarnation, name[key], arbiter) for key, (incarnation, _, arbiter) in link.held.items())
        return (
            self.incarnation, tuple(self.queue), self.unsent, self.dials, self.epoch, self.count, self.fired, self.again,
            self.seen, name[link.up], link.up_incarnation, link.newest, earlier, link.known, pending, held,
        )

    def role(self, key: int) -> tuple[bool, bool, bool]:
        """What a connection is to this side."""
        return key == self.link.up, key in self.link.pending, key in self.link.held

    @classmethod
    def thaw(cls, frozen: Any) -> Side:
        side = cls.__new__(cls)
        side.incarnation, queue, side.unsent, side.dials, side.epoch, side.count, side.fired, side.again = frozen[:8]
        side.queue, side.seen = list(queue), frozen[8]
        side.link = link = Link()
        link.up, link.up_incarnation, link.newest, earlier, link.known = frozen[9:14]
        link.number = 2 * earlier - 1  # behind that many of the connections that there are, whose numbers are even
        link.pending = dict(frozen[14])
        link.held = {key: (incarnation, 2 * number, arbiter) for key, incarnation, number, arbiter in frozen[15]}
        return side


class World:
    """A state that can be changed; `freeze` makes it one that can be remembered."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.sides = [Side(1, setting), Side(1, setting)]
        self.wires: dict[int, Wire] = {}
        self.failures, self.restarts = setting.failures, setting.restarts
        self.troubled = False

    def freeze(self) -> Any:
        """Connections are named in the order in which they began: nothing else of their names matters."""
        a, b = self.sides
        keys = sorted(self.wires, key=lambda key: self.wires[key].number)
        name: dict[int | None, int | None] = {None: None}
        name.update((key, place) for place, key in enumerate(keys))
        wires = tuple(self.wires[key].freeze() for key in keys)
        numbers = [self.wires[key].number for key in keys]
        return (
            a.freeze(name, numbers), b.freeze(name, numbers), wires, self.failures, self.restarts, self.troubled
        )

    @classmethod
    def thaw(cls, setting: Setting, frozen: Any) -> World:
        world = cls.__new__(cls)
        world.setting = setting
        world.sides = [Side.thaw(frozen[0]), Side.thaw(frozen[1])]
        world.wires = {key: Wire.thaw(wire, 2 * key) for key, wire in enumerate(frozen[2])}
        world.failures, world.restarts, world.troubled = frozen[3:]
        return world

    # ---- what can happen

    def events(self) -> Iterator[tuple[Any, ...]]:
        for me in (0, 1):
            yield from self._events_of(me)
        for key, wire in self.wires.items():
            for me in (0, 1):
                if wire.open[me] and wire.way[1 - me] and key not in self.sides[me].link.held:
                    yield ("arrive", me, key)
                if wire.open[me] and wire.deaf[me] and self.sides[me].link.up != key:
                    yield ("time_out", me, key)
            if self.failures and any(wire.open):
                if "break" in self.setting.kinds:
                    yield ("break", key)
                if "forget" in self.setting.kinds and all(wire.open):
                    yield ("forget", 0, key)
                    yield ("forget", 1, key)

    def _events_of(self, me: int) -> Iterator[tuple[Any, ...]]:
        side = self.sides[me]
        if side.unsent:
            yield ("send", me)
        if side.link.up is None and len(self.wires) < MOST_CONNECTIONS:
            dialling = any(wire.dialler == me and wire.open[me] for wire in self.wires.values())
            if side.queue and not dialling and not (side.again and side.link.pending):
                yield ("dial", me)
                if self.failures and "dial_fails" in self.setting.kinds:
                    yield ("dial_fails", me)
            if side.dials:
                yield ("dial_early", me)
        if self.setting.perl and self.troubled and side.again and side.queue and side.link.up is None:
            yield ("give_up", me)  # Perl takes its half-dead connection for up, and does not write on it
        if side.link.held:
            yield ("silent", me)
            wire = self.wires[side.link.up]  # type: ignore[index]
            if wire.open[1 - me] and wire.claims[me] == self.sides[1 - me].incarnation:
                yield ("alive", me)
        if self.setting.forgets and side.link.known and side.link.is_idle and not side.queue and not self._open(me):
            yield ("forget_peer", me)
        if self.restarts:
            yield ("restart", me, False)
            yield ("restart", me, True)

    def _open(self, me: int) -> bool:
        return any(wire.open[me] for wire in self.wires.values())

    def happen(self, event: tuple[Any, ...]) -> None:
        getattr(self, "_" + event[0])(*event[1:])
        for key in [key for key, wire in self.wires.items() if not any(wire.open)]:
            del self.wires[key]

    def _send(self, me: int) -> None:
        side = self.sides[me]
        side.unsent -= 1
        message = ("message", side.incarnation, side.epoch, side.count)
        side.count += 1
        if side.link.up is None:
            side.queue.append(message)
        else:
            self._write(me, side.link.up, message)

    def _dial(self, me: int) -> None:
        key = next(number for number in range(MOST_CONNECTIONS) if number not in self.wires)
        number = max((wire.number for wire in self.wires.values()), default=0) + 2
        self.wires[key] = Wire(me, [side.incarnation for side in self.sides], number)

    def _dial_early(self, me: int) -> None:
        self.sides[me].dials -= 1
        self._dial(me)

    def _dial_fails(self, me: int) -> None:
        self._trouble()
        self._fail(me)

    def _give_up(self, me: int) -> None:
        """The time limit for connecting is over."""
        self._fail(me)

    def _trouble(self) -> None:
        self.failures -= 1
        self.troubled = True

    def _break(self, key: int) -> None:
        """What is on the way is lost; each end hears of it some time."""
        self._trouble()
        wire = self.wires[key]
        for me in (0, 1):
            wire.way[me] = [END] if wire.open[1 - me] else []

    def _forget(self, me: int, key: int) -> None:
        """One end is gone, and the other hears of it only when it writes."""
        self._trouble()
        wire = self.wires[key]
        wire.way = [[], []]
        wire.deaf[1 - me] = True
        self._close(me, key)

    def _restart(self, me: int, unnoticed: bool) -> None:
        self.restarts -= 1
        self.troubled = True
        old = self.sides[me]
        for wire in self.wires.values():
            if wire.open[me]:
                wire.open[me] = False
                wire.way[1 - me] = []
                if unnoticed:
                    wire.deaf[1 - me] = True
                    wire.way[me] = []
                else:
                    wire.way[me].append(END)
        self.sides[me] = Side(old.incarnation + 1, self.setting)

    def _time_out(self, me: int, key: int) -> None:
        """A handshake ends by its time limit, in which nothing came."""
        self._close(me, key)

    def _forget_peer(self, me: int) -> None:
        """It was idle for longer than a handshake may take: what is known of it is forgotten."""
        self.sides[me].link = Link()

    def _alive(self, me: int) -> None:
        up = self.sides[me].link.up
        assert up is not None
        self._do(me, self.sides[me].link.challenged(up, alive=True))

    def _silent(self, me: int) -> None:
        up = self.sides[me].link.up
        assert up is not None
        self._do(me, self.sides[me].link.challenged(up, alive=False))

    # ---- TCP

    def _write(self, me: int, key: int, item: Any) -> None:
        wire = self.wires[key]
        if wire.deaf[me]:
            wire.deaf[me] = False
            wire.way[1 - me] = [END]
        elif wire.open[1 - me] and (item != NO_OP or NO_OP not in wire.way[me]):  # one stands for any number
            wire.way[me].append(item)

    def _close(self, me: int, key: int) -> None:
        wire = self.wires[key]
        if not wire.open[me]:
            return
        wire.open[me] = False
        wire.way[1 - me] = []
        if wire.open[1 - me] and not wire.deaf[1 - me]:
            wire.way[me].append(END)
        self._closed(me, key)

    # ---- what a node does

    def _arbiter(self, me: int) -> bool:
        return me == 0

    def _is_perl(self, me: int) -> bool:
        return self.setting.perl and me == 1

    def _arrive(self, me: int, key: int) -> None:
        kind, *rest = self.wires[key].way[1 - me].pop(0)
        if kind == "end":
            self._close(me, key)
        elif kind == "greeting":
            self._greeted(me, key)
        elif kind == "auth":
            self._authenticated(me, key)
        elif kind == "message":
            self._received(me, rest)

    def _send_auth(self, me: int, key: int) -> None:
        wire = self.wires[key]
        if not wire.auth_sent[me]:
            wire.auth_sent[me] = True
            self._write(me, key, AUTH)

    def _greeted(self, me: int, key: int) -> None:
        if self._is_perl(me):
            if self.sides[me].link.up is not None:
                self._close(me, key)  # "already connected"
            else:
                self._send_auth(me, key)
        else:
            self.sides[me].link.offered(key, self._named(me, key))
            self._send_auth(me, key)

    def _named(self, me: int, key: int) -> str:
        """The incarnation that the other's greeting names; Perl names none."""
        claim = self.wires[key].claims[me]
        return "" if self._is_perl(1 - me) else str(9 - claim if self.setting.clock_back else claim)

    def _authenticated(self, me: int, key: int) -> None:
        link = self.sides[me].link
        if self._is_perl(me):
            old, link.up = link.up, None
            if old is not None:
                self._close(me, old)
                self._lose(me)
            link.up = key
            self._do(me, [Do(Act.ACCEPT, key)])
        else:
            number = self.wires[key].number
            self._do(me, link.authenticated(key, self._named(me, key), number, arbiter=self._arbiter(me)))

    def _do(self, me: int, todo: list[Do[int]]) -> None:
        side = self.sides[me]
        for act, key in todo:
            if act is Act.ACCEPT:
                self._send_auth(me, key)
                side.again = False
                queue, side.queue = side.queue, []
                for message in queue:
                    self._write(me, key, message)
            elif act is Act.LOSE:
                self._lose(me)
            elif act in (Act.PROBE, Act.CHALLENGE):
                self._write(me, key, NO_OP)
            else:
                self._close(me, key)

    def _closed(self, me: int, key: int) -> None:
        side, wire = self.sides[me], self.wires[key]
        if self._is_perl(me):
            if side.link.up == key:
                side.link.up = None
                self._lose(me)
            return
        was_up = side.link.up == key
        self._do(me, side.link.closed(key))
        if wire.dialler == me and not was_up and side.link.up is None:
            side.again = side.link.dial_again(self._named(me, key))
            if not side.again:
                self._fail(me)

    def _fail(self, me: int) -> None:
        if self.sides[me].queue and self.sides[me].link.up is None:
            self._lose(me)

    def _lose(self, me: int) -> None:
        side = self.sides[me]
        side.queue = []
        side.again = False
        side.epoch += 1
        side.count = 0
        side.fired += 1
        assert self.troubled, "a monitor fired without a failure"
        assert side.fired < 8, "monitors fire on and on"

    def _received(self, me: int, message: list[Any]) -> None:
        side = self.sides[me]
        incarnation, epoch, number = message
        seen_incarnation, seen_epoch, seen_number = side.seen or (0, 0, -1)
        if self._is_perl(me) and incarnation < seen_incarnation:
            return  # Perl knows no incarnations: a line of the old one, still on the way, wins there over the new one
        if (incarnation, epoch) == (seen_incarnation, seen_epoch):
            assert number == seen_number + 1, f"hole or double: {message} after {side.seen}"
        else:
            assert (incarnation, epoch) > (seen_incarnation, seen_epoch), f"late: {message} after {side.seen}"
            assert number == 0, f"an epoch begins with {message} after {side.seen}"
        side.seen = (incarnation, epoch, number)

    # ---- the end

    def check_end(self) -> None:
        a, b = self.sides
        if not a.queue and not b.queue and a.link.up is None and b.link.up is None:
            assert self.troubled, "no connection"
            return
        if any(wire.deaf[me] for me in (0, 1) for wire in self.wires.values() if wire.open[me]):
            # an idle connection that is half dead: the other node wants nothing; keepalive finds it
            assert not a.queue, "the first node waits for ever"
            assert not b.queue, "the second node waits for ever"
            return
        assert a.link.up is not None, "only the second node is up"
        assert a.link.up == b.link.up, "two connections, or one that only the first node takes for up"
        assert len(self.wires) == 1, "a connection is left over"
        assert not a.queue, "the first node has messages queued"
        assert not b.queue, "the second node has messages queued"
        if not self.troubled:
            for side in (a, b):
                assert side.seen == (1, 0, self.setting.messages - 1), "messages lost"


def explore(setting: Setting) -> int:
    """Every state that can be reached; returns how many. An assertion that fails tells the events that led there."""
    first = World(setting).freeze()
    number_of = {first: 0}
    came_from: list[tuple[int, Any]] = [(-1, None)]
    before: list[list[int]] = [[]]
    ends: list[int] = []
    todo = deque([first])
    while todo:
        frozen = todo.popleft()
        number = number_of[frozen]
        events = list(World.thaw(setting, frozen).events())
        try:
            if all(event[0] in ("break", "forget", "restart") for event in events):
                World.thaw(setting, frozen).check_end()
                ends.append(number)
            for event in events:
                world = World.thaw(setting, frozen)
                last = event
                world.happen(event)
                after = world.freeze()
                found = number_of.get(after)
                if found is None:
                    found = number_of[after] = len(came_from)
                    came_from.append((number, event))
                    before.append([])
                    todo.append(after)
                before[found].append(number)
        except AssertionError as error:
            last = event if events else None
            raise AssertionError(f"{error}; events: {path(came_from, number)} then {last}") from error
    good = set(ends)
    todo_numbers = list(ends)
    while todo_numbers:
        for number in before[todo_numbers.pop()]:
            if number not in good:
                good.add(number)
                todo_numbers.append(number)
    bad = next((number for number in range(len(came_from)) if number not in good), None)
    assert bad is None, f"no end can be reached after {path(came_from, bad)}"
    return len(came_from)


def path(came_from: list[tuple[int, Any]], number: int) -> list[Any]:
    events = []
    while number > 0:
        number, event = came_from[number]
        events.append(event)
    return events[::-1]


FEW = [
    Setting(),
    Setting(dials=0, failures=1),
    Setting(dials=0, restarts=1),
    Setting(dials=0, restarts=1, forgets=True, clock_back=True),
    Setting(perl=True),
    Setting(dials=0, failures=1, perl=True),
]
MANY = [
    Setting(messages=2, dials=0, failures=1),
    Setting(messages=2, dials=0, restarts=1),
    Setting(messages=2, dials=2),
    Setting(dials=1, failures=1),
    Setting(dials=1, restarts=1),
    Setting(dials=1, restarts=1, clock_back=True),
    Setting(dials=0, failures=1, restarts=1),
    Setting(dials=0, failures=1, restarts=1, forgets=True, clock_back=True),
    Setting(messages=2, dials=0, failures=2, forgets=True, kinds=("break",)),
    Setting(dials=0, restarts=2, clock_back=True),
    Setting(messages=2, dials=2, perl=True),
    Setting(dials=1, failures=1, perl=True),
    Setting(dials=0, restarts=1, perl=True),
]


COUNTS = ("messages", "dials", "failures", "restarts")


def title(setting: Setting) -> str:
    words = [f"{number}_{name}" for name, number in setting._asdict().items() if name in COUNTS and number]
    words += [name for name in ("forgets", "clock_back") if getattr(setting, name)]
    return "_".join([*words, "perl" if setting.perl else "gmp"])


@pytest.mark.parametrize("setting", FEW, ids=title)
def test_one_connection_nothing_lost_and_no_monitor_without_a_failure(setting: Setting) -> None:
    assert explore(setting) > 500


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("setting", MANY, ids=title)
def test_the_same_with_more_dials_messages_and_failures(setting: Setting) -> None:
    assert explore(setting) > 1_000


def test_the_exploration_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides taking themselves for the arbiter is the deadlock that it must see."""
    monkeypatch.setattr(World, "_greeted", lambda self, me, key: None)
    with pytest.raises(AssertionError, match=r"no end can be reached|waits for ever|queued|only the|no connection"):
        explore(Setting(dials=0))


def test_the_exploration_finds_a_monitor_that_fires_without_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """race: the end of the losing connection overtakes the arbiter's line on the winning one."""
    monkeypatch.setattr(Link, "dial_again", lambda self, incarnation: False)
    with pytest.raises(AssertionError, match="without a failure"):
        explore(Setting())


def test_the_exploration_finds_the_line_of_an_old_incarnation(monkeypatch: pytest.MonkeyPatch) -> None:
    """race: the old incarnation's queued line arrives after the new one's."""
    monkeypatch.setattr("gmp.net.peerstate.judge", lambda **known: judge(**{**known, "earlier": False}))
    with pytest.raises(AssertionError):
        explore(Setting(dials=0, restarts=1))


@pytest.mark.parametrize(
    ("arbiter", "up", "newest", "incarnation", "earlier", "verdict"),
    [
        (True, None, "", "2", False, Verdict.ACCEPT),
        (True, None, "2", "2", True, Verdict.ACCEPT),
        (True, None, "2", "1", True, Verdict.REFUSE_OLD),
        (False, None, "2", "1", True, Verdict.REFUSE_OLD),
        (True, None, "1", "2", True, Verdict.REFUSE_OLD),
        (True, None, "2", "1", False, Verdict.ACCEPT),
        (True, "2", "2", "2", False, Verdict.REFUSE_DUPLICATE),
        (False, "2", "2", "2", True, Verdict.REPLACE),
        (True, "1", "1", "2", False, Verdict.CHALLENGE),
        (False, "1", "1", "2", False, Verdict.CHALLENGE),
        (True, "2", "2", "1", False, Verdict.CHALLENGE),
        (True, "", "", "", False, Verdict.REFUSE_DUPLICATE),
        (True, "1", "1", "", True, Verdict.REFUSE_DUPLICATE),
        (True, None, "1", "", True, Verdict.ACCEPT),
    ],
)
def test_the_verdict(
    arbiter: bool, up: str | None, newest: str, incarnation: str, earlier: bool, verdict: Verdict
) -> None:
    known = {"arbiter": arbiter, "up": up, "newest": newest, "incarnation": incarnation, "earlier": earlier}
    assert judge(**known) is verdict  # type: ignore[arg-type]  # each has the type that it has above


def test_the_smaller_id_by_bytes_is_the_arbiter_and_gmp_towards_perl() -> None:
    assert is_arbiter("a", "b", peer_is_gmp=True)
    assert not is_arbiter("b", "a", peer_is_gmp=True)
    assert is_arbiter("b", "a", peer_is_gmp=False)
    assert is_arbiter("\uffff", "\U00010000", peer_is_gmp=True)


def test_a_challenger_is_refused_while_the_kernel_answers_and_accepted_when_it_does_not() -> None:
    link: Link[str] = Link()
    assert link.authenticated("old", "1", 1, arbiter=True) == [Do(Act.ACCEPT, "old")]
    assert link.authenticated("new", "2", 2, arbiter=True) == [Do(Act.CHALLENGE, "old")]
    assert link.challenged("old", alive=True) == [Do(Act.REFUSE, "new")]
    assert link.authenticated("newer", "3", 3, arbiter=True) == [Do(Act.CHALLENGE, "old")]
    assert link.challenged("old", alive=False) == [
        Do(Act.CLOSE_RESTARTED, "old"),
        Do(Act.LOSE, "old"),
        Do(Act.ACCEPT, "newer"),
    ]
    assert link.challenged("old", alive=True) == []  # race: it ended meanwhile
