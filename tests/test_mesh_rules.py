"""The mesh's pure decisions, without sockets: the directory, whose report counts, and a whole backbone on paper."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gmp
from gmp.config import Address
from gmp.mesh.addresses import MOST_DIALLED, dialable, for_others, is_loopback
from gmp.mesh.backbone import Backbone
from gmp.mesh.claims import GRACE, REMEMBERED, Claims, Step
from gmp.mesh.connector import Search
from gmp.mesh.directory import Change, Directory, clean_database, difference, is_same
from gmp.mesh.ground import Cancellable, Ground
from gmp.mesh.seeds import MOST_DELAY, Retry, Seed
from gmp.mesh.unattached import Unattached

# ---- directory

keys = st.sampled_from(["k1", "k2", "k3"])
families = st.sampled_from(["f1", "f2"])
owners = st.sampled_from(["me", "a", "b", "c"])
reports = st.tuples(owners, families, st.dictionaries(keys, st.integers(0, 3)), st.lists(keys, max_size=2))


def merged_slowly(shards: dict[str, dict[str, dict[str, int]]], family: str) -> dict[str, int]:
    result: dict[str, int] = {}
    for owner in sorted(shards, key=lambda owner: (owner != "me", owner), reverse=True):
        result.update(shards[owner].get(family, {}))
    return result


ones = st.sampled_from([1, True, 1.0, 0, False, 0.0, "1"])
equals = st.recursive(
    ones,
    lambda inner: st.lists(inner, max_size=2)
    | st.lists(inner, max_size=2).map(tuple)
    | st.sets(ones, max_size=2)
    | st.frozensets(ones | st.tuples(ones), max_size=2)
    | st.dictionaries(ones | st.tuples(ones) | st.frozensets(ones, max_size=1), inner, max_size=2),
    max_leaves=3,
)


def typed(value: Any) -> Any:
    """A form that is equal for values that are equal and of the same types throughout."""
    kind = type(value)
    if kind is dict:
        return kind, frozenset((typed(key), typed(item)) for key, item in value.items())
    if kind in (set, frozenset):
        return kind, frozenset(map(typed, value))
    return (kind, tuple(map(typed, value))) if kind in (list, tuple) else (kind, repr(value))


@given(equals, equals)
@example({1: "x"}, {True: "x"})
@example({(1,): 0}, {(True,): 0})
@example({1}, {True})
@example([{"k": {1: 2}}], [{"k": {1.0: 2}}])
def test_values_of_different_types_are_different_wherever_they_stand(value: Any, other: Any) -> None:
    assert is_same(value, value)
    assert is_same(value, other) == (typed(value) == typed(other))


def test_a_key_of_another_type_is_a_change() -> None:
    directory = Directory("me")
    directory.update("a", "f", {"k": {1: "x"}}, [])
    (change,) = directory.update("a", "f", {"k": {True: "x"}}, [])
    assert repr(change.set) == "{'k': {True: 'x'}}"
    assert directory.update("a", "f", {"k": {True: "x"}}, []) == []


@given(st.lists(st.one_of(reports, owners), max_size=30))
def test_the_view_is_always_the_merged_shards_and_changes_lead_from_view_to_view(steps: list[Any]) -> None:
    directory = Directory("me")
    shards: dict[str, dict[str, dict[str, int]]] = {}
    seen: dict[str, dict[str, int]] = {"f1": {}, "f2": {}}
    for step in steps:
        if isinstance(step, str):
            shards.pop(step, None)
            changes = directory.drop(step)
        else:
            owner, family, changed, deleted = step
            entries = shards.setdefault(owner, {}).setdefault(family, {})
            for key in deleted:
                entries.pop(key, None)
            entries.update(changed)
            changes = directory.update(owner, family, changed, deleted)
        for change in changes:
            assert change.set or change.deleted
            for key in change.deleted:
                del seen[change.family][key]
            seen[change.family].update(change.set)
        for family, entries in seen.items():
            assert entries == directory.view(family) == merged_slowly(shards, family)


def test_a_node_knows_itself_best() -> None:
    directory = Directory("me")
    directory.update("a", "'l", {"z": ["mirrored"]}, [])
    directory.update("z", "'l", {"z": ["its own"]}, [])
    assert directory.view("'l") == {"z": ["mirrored"]}
    assert directory.lookup("'l", "z") == ["its own"]


def test_what_a_peer_sends_is_cleaned() -> None:
    assert clean_database({"f": {"k": 1, 2: 3}, 4: {}, "g": []}) == {"f": {"k": 1}}
    assert clean_database([1]) == {}
    assert difference("f", {"a": 1, "b": 2}, {"b": 3, "c": 4}) == Change("f", {"b": 3, "c": 4}, ["a"])


def test_loopback_addresses_do_not_cross_other_connections() -> None:
    addresses = ["10.0.0.1:4040", "127.0.0.1:4040", "[::1]:4040", "[2001:db8::1]:4040", "localhost:1"]
    assert [address for address in addresses if is_loopback(address)] == ["127.0.0.1:4040", "[::1]:4040", "localhost:1"]
    assert for_others("'l", {"n": addresses}, near=False) == {"n": ["10.0.0.1:4040", "[2001:db8::1]:4040"]}
    assert for_others("'l", {"n": addresses}, near=True) == {"n": addresses}
    assert for_others("group", {"n": ["127.0.0.1:1"]}, near=False) == {"n": ["127.0.0.1:1"]}


@pytest.mark.parametrize(
    "host", ["127.8.9.10", "[0:0:0:0:0:0:0:1]", "[::ffff:7f00:1]", "[::FFFF:127.0.0.1]", "0.0.0.0", "[::]", "LocalHost."]
)
def test_loopback_in_any_spelling(host: str) -> None:
    assert is_loopback(f"{host}:4040")


def test_what_is_dialled_because_a_node_asks_for_it() -> None:
    useless = [7, "", "host", "host:0", "host:x", "srv+_x._tcp.example.org"]
    asked = ["10.0.0.1:4040", "10.0.0.1:4040", *useless, "127.0.0.1:22", "h:1"]
    assert dialable(asked, near=False) == ["10.0.0.1:4040", "h:1"]
    assert dialable(asked, near=True) == ["10.0.0.1:4040", "127.0.0.1:22", "h:1"]
    many = [f"10.0.0.1:{port}" for port in range(1, 1000)]
    assert dialable(many, near=True) == many[:MOST_DIALLED]
    assert dialable({"10.0.0.1:1": 1}, near=True) == []


class Nowhere:
    """A ground on which every dial fails at once."""

    def now(self) -> float:
        return 0.0

    def __init__(self) -> None:
        self.dialled: list[Address] = []

    def is_up(self, node_id: str) -> bool:
        return False

    def resolve(self, address: Address) -> list[Address]:
        return [address]

    def dial(self, address: Address, *, expect: str) -> str:
        self.dialled.append(address)
        raise gmp.GmpError("nobody")


def test_a_node_that_says_it_listens_everywhere_is_not_dialled_everywhere() -> None:
    ground: Any = Nowhere()
    Search(ground, None, "node").dial_each([f"10.0.0.1:{port}" for port in range(1, 1000)])  # type: ignore[arg-type]
    assert ground.dialled == [Address("10.0.0.1", port) for port in range(1, MOST_DIALLED + 1)]


# ---- claims


def test_the_highest_version_wins_whoever_reports_it() -> None:
    claims = Claims()
    assert claims.claim("x", "seed1", ("i1", 5))
    assert not claims.claim("x", "seed2", ("i1", 4))
    assert claims.claimant("x") == "seed1"
    assert claims.claim("x", "seed2", ("i2", 1))
    assert claims.claimant("x") == "seed2"


def test_an_orphan_is_kept_for_its_time_and_may_come_back() -> None:
    claims = Claims()
    claims.claim("x", "seed1", ("i", 1))
    claims.claim("y", "seed1", ("i", 1))
    claims.seed_lost("seed1", 100.0)
    assert claims.next_expiry() == 100.0 + GRACE
    assert claims.claim("x", "seed2", ("i", 2))
    assert claims.expire(100.0 + GRACE - 0.1) == []
    assert claims.expire(100.0 + GRACE) == [("y", None)]
    assert claims.next_expiry() is None


def test_a_late_report_about_an_owner_that_has_ended_is_ignored() -> None:
    claims = Claims()
    claims.claim("x", "seed1", ("i1", 3))
    assert claims.release("x", ("i1", 3), ended=True, now=0.0)
    assert not claims.claim("x", "seed2", ("i1", 3))
    assert "x" not in claims
    assert claims.claim("x", "seed2", ("i2", 1))


def test_the_end_of_an_owner_is_forgotten_after_a_while() -> None:
    claims = Claims()
    for owner in ("x", "y"):
        claims.claim(owner, "seed1", ("i", 1))
        claims.release(owner, ("i", 1), ended=True, now=10.0)
    assert not claims.claim("x", "seed2", ("i", 1))
    assert claims.next_expiry() == 10.0 + REMEMBERED
    assert claims.forget_ends(10.0 + REMEMBERED - 0.1) == []
    assert claims.forget_ends(10.0 + REMEMBERED) == [("x", "seed2")]
    assert claims.next_expiry() is None
    assert claims.claim("x", "seed2", ("i", 1))


def test_a_release_does_not_touch_an_owner_that_has_moved() -> None:
    claims = Claims()
    claims.claim("x", "seed1", ("i", 1))
    claims.claim("x", "seed2", ("i", 2))
    assert not claims.release("x", ("i", 1), ended=True, now=0.0)
    assert claims.claimant("x") == "seed2"


def test_a_gap_asks_for_the_whole() -> None:
    claims = Claims()
    claims.claim("x", "seed1", ("i", 1))
    assert claims.change("x", "seed1", ("i", 2)) is Step.APPLY
    assert claims.change("x", "seed1", ("i", 2)) is Step.IGNORE
    assert claims.change("x", "seed1", ("i", 4)) is Step.ASK
    assert claims.change("x", "seed2", ("i", 3)) is Step.ASK
    assert claims.change("new", "seed2", ("i", 3)) is Step.ASK


def test_an_incarnation_that_lives_ranks_above_what_was_known_whatever_its_clock_says() -> None:
    claims, rank = Claims(), ""
    for number, incarnation in enumerate(["i5", "i3", "i4", "i3", "i1", "i9", "i8"]):
        before, rank = rank, claims.rank("x", incarnation, incarnation)
        assert rank > before
        assert claims.claim("x", "seed1", (rank, 1))
        assert claims.rank("x", incarnation, incarnation) == rank
        assert not claims.claim("x", "seed2", (before, 9)), "what is late of the one before"
        assert claims.release("x", (rank, 1), ended=True, now=float(number))
        assert claims.lives("x", incarnation)
        assert claims.claim("x", "seed1", (rank, 2))
    assert rank == "i9+i8", "one that comes back with the right time ends it"


def test_what_another_seed_reports_of_an_incarnation_ranks_as_it_does_here() -> None:
    """It knew none of the former ones."""
    claims = Claims()
    claims.claim("x", "seed1", ("i5", 1))
    assert claims.rank("x", "i3", "") == "i3", "nobody knows whether it lives"
    assert claims.rank("x", "i3", "i3") == "i5+i3"
    assert claims.rank("x", "i5", "i3") == "i5", "what is late"
    claims.claim("x", "seed2", ("i5+i3", 1))
    assert claims.rank("x", "i3", "") == "i5+i3", "its connection here has ended"
    assert claims.rank("x", "i4", "") == "i4"
    assert claims.rank("x", "i6+i3", "") == "i6+i3", "that seed knew more"
    assert claims.rank("x", "i6", "i3") == "i6"


def test_whose_end_has_made_a_report_ignored_is_asked_for_when_it_is_connected_again() -> None:
    claims = Claims()
    claims.claim("x", "seed1", ("i5", 1))
    claims.release("x", ("i5", 1), ended=True, now=0.0)
    assert not claims.lives("x", "i3")
    assert not claims.claim("x", "seed2", ("i3", 1))
    assert claims.lives("x", "i3")
    assert claims.claim("x", "seed2", (claims.rank("x", "i3", "i3"), 1))
    assert not claims.claim("x", "seed1", ("i5", 1)), "late"


def test_who_reported_less_than_is_known_is_asked_when_that_is_gone() -> None:
    claims = Claims()
    claims.claim("x", "seed1", ("i5", 1))
    assert not claims.claim("x", "seed2", ("i3", 1))
    claims.seed_lost("seed1", 100.0)
    assert claims.expire(100.0 + GRACE) == [("x", "seed2")]
    claims.claim("x", "seed1", ("i5", 1))
    claims.claim("x", "seed2", ("i3", 1))
    assert claims.release("x", ("i5", 1), ended=True, now=200.0)
    assert claims.forget_ends(200.0 + REMEMBERED) == [("x", "seed2")]


@given(st.data())
def test_any_order_of_reports_ends_alike(data: st.DataObject) -> None:
    """An owner wanders from seed to seed; what the seeds tell of it reaches an observer in any order between seeds."""
    links: dict[str, deque[tuple[Any, ...]]] = {f"seed{number}": deque() for number in range(3)}
    version, at, incarnation = 0, "", "i00"
    contents: dict[str, int] = {}
    for step in range(data.draw(st.integers(1, 12))):
        what = data.draw(st.sampled_from(["move", "change", "restart"])) if at else "move"
        if what == "change":
            version += 1
            contents = {**contents, str(version % 3): version}
            links[at].append(("change", (incarnation, version), {str(version % 3): version}))
            continue
        if at:
            links[at].append(("release", (incarnation, version), what == "restart"))
        if what == "restart":
            incarnation, version, contents = f"i{step + 1:02}", 0, {"start": step}
        at = data.draw(st.sampled_from(sorted(links)))
        version += 1
        links[at].append(("claim", (incarnation, version), dict(contents)))
    claims, directory = Claims(), Directory("observer")
    while any(links.values()):
        seed = data.draw(st.sampled_from([seed for seed, link in links.items() if link]))
        name, its_version, extra = links[seed].popleft()
        if name == "claim":
            if claims.claim("x", seed, its_version):
                directory.replace("x", {"f": extra})
        elif name == "release":
            if claims.release("x", its_version, ended=extra, now=0.0):
                directory.drop("x")
        elif claims.change("x", seed, its_version) is Step.APPLY:
            directory.update("x", "f", extra, [])
    assert claims.claimant("x") == at
    assert claims.version("x") == (incarnation, version)
    assert directory.view("f") == contents


# ---- seeds


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_delays_grow_to_a_bound_with_jitter_and_start_anew(jitters: list[float]) -> None:
    retry = Retry()
    for count, jitter in enumerate(jitters):
        retry.failed(1000.0, jitter)
        longest = min(0.3 * 2**count, MOST_DELAY)
        assert longest / 2 - 1e-9 <= retry.due - 1000.0 <= longest + 1e-9
    retry.succeeded()
    assert retry.due == 0.0
    retry.failed(0.0, 1.0)
    assert retry.due <= 0.3 + 1e-9


def test_a_name_keeps_its_connected_addresses_and_forgets_the_others_that_dns_no_longer_has() -> None:
    from gmp.config import Address

    one, two, three = (Address(f"10.0.0.{number}", 1) for number in (1, 2, 3))
    seed = Seed(Address("seeds.example.org", 1))
    assert seed.due(lambda _: False) == 0.0
    seed.meet([one, two], lambda _: False)
    seed.targets[one].node_id = "n1"
    seed.meet([two, three], lambda node_id: node_id == "n1")
    assert set(seed.targets) == {one, two, three}
    assert [target.address for target in seed.to_dial(lambda node_id: node_id == "n1")] == [two, three]
    seed.meet([three], lambda _: False)
    assert set(seed.targets) == {three}


# ---- a backbone on paper


class Paper:
    """Nodes whose requests travel over queues, one for each direction of each link; links and nodes may end.

    One side may see the end of a link later than the other, and what was sent before it. Until then it takes the other one
    for connected, and refuses another incarnation of it.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, PaperNode] = {}
        self.links: set[frozenset[str]] = set()
        self.queues: dict[tuple[str, str], deque[tuple[Any, ...]]] = {}
        self.late: dict[tuple[str, str], str] = {}  # queues behind whose last request is the end; the sender's incarnation
        self.time = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def add(self, name: str, incarnation: str, seeds: list[str]) -> PaperNode:
        node = self.nodes[name] = PaperNode(self, name, incarnation, seeds)
        return node

    def link(self, a: str, b: str) -> None:
        if a in self.nodes and b in self.nodes and a != b and frozenset((a, b)) not in self.links:
            if not (self._replace_late(a, b) and self._replace_late(b, a)):
                return
            self.links.add(frozenset((a, b)))
            for one, other in ((a, b), (b, a)):
                self.queues[one, other] = deque()
                self.nodes[one].newest[other] = self.nodes[other].incarnation
            for one, other in ((a, b), (b, a)):
                self.nodes[one].backbone.node_up(other)
                if other in self.nodes[one].seeds:
                    self.nodes[one].backbone.seed_up(other)

    def _replace_late(self, sender: str, receiver: str) -> bool:
        """Return False when `receiver` still takes a former incarnation of `sender` for connected."""
        incarnation = self.late.get((sender, receiver))
        if incarnation == self.nodes[sender].incarnation:
            self.end(sender, receiver, ended=False)
        return incarnation in (None, self.nodes[sender].incarnation)

    def cut(self, a: str, b: str, *, ended: bool = False, late: str = "") -> None:
        """`ended`: by a FIN, which is how a process ends; and a proxy, or who restarts one, though both processes live.

        `late`: of the two the one that sees it later.
        """
        if frozenset((a, b)) in self.links:
            self.links.discard(frozenset((a, b)))
            incarnations = {name: self.nodes[name].incarnation for name in (a, b) if name in self.nodes}
            for one, other in ((a, b), (b, a)):
                if other == late:
                    self.late[one, other] = incarnations[one]
                    self.queues[one, other].append(())
                else:
                    self.queues.pop((one, other))
            for one, other in ((a, b), (b, a)):
                if one != late and one in self.nodes:
                    self.nodes[one].backbone.node_down(other, ended=ended)

    def end(self, sender: str, receiver: str, *, ended: bool) -> None:
        """`receiver` sees the end of a late queue."""
        del self.late[sender, receiver], self.queues[sender, receiver]
        self.nodes[receiver].backbone.node_down(sender, ended=ended)

    def kill(self, name: str, late: Callable[[str], bool] = lambda other: False) -> None:
        """`late`: which of the others see it later."""
        self.nodes[name].backbone.stop()
        for pair in [pair for pair in self.late if pair[1] == name]:
            del self.late[pair], self.queues[pair]
        for link in [link for link in self.links if name in link]:
            (other,) = link - {name}
            self.cut(other, name, ended=True, late=other if late(other) else "")
        del self.nodes[name]

    def deliver_one(self, rng: random.Random) -> bool:
        waiting = [pair for pair, queue in self.queues.items() if queue]
        if not waiting:
            return False
        sender, receiver = rng.choice(waiting)
        name, *args = self.queues[sender, receiver].popleft() or ("",)
        backbone = self.nodes[receiver].backbone
        if not name:
            self.end(sender, receiver, ended=True)
            return True
        assert backbone.handles(name), name
        backbone.handle(sender, name, tuple(args))
        return True

    def settle(self, rng: random.Random, seconds: float = 0.0) -> None:
        self.time += seconds
        while True:
            while self.deliver_one(rng):
                pass
            due = [timer for timer in self.timers if timer[0] <= self.time]
            if not due:
                return
            for timer in due:
                self.timers.remove(timer)
                timer[1]()


class PaperNode:
    """What a backbone needs of its node, and what a watcher of one group saw."""

    def __init__(self, paper: Paper, name: str, incarnation: str, seeds: list[str]) -> None:
        self.id, self.incarnation, self.seeds = name, incarnation, seeds
        self._paper = paper
        self.perl = name.startswith("perl")
        self.removed: list[str] = []
        self.newest: dict[str, str] = {}  # of each node that was ever connected, the last incarnation
        self.backbone = Backbone(self, lambda: None)  # type: ignore[arg-type]
        self.backbone.watch("group", lambda change: self.removed.extend(change.deleted))
        self.backbone.announce()
        if name in seeds:
            self.backbone.become_global()

    def request(self, node_id: str, *request: Any) -> None:
        if (self.id, node_id) in self._paper.queues:
            self._paper.queues[self.id, node_id].append(request)

    def is_linked(self, node_id: str) -> bool:
        return frozenset((self.id, node_id)) in self._paper.links or (node_id, self.id) in self._paper.late

    is_up = is_linked

    def carries_bytes(self, node_id: str) -> bool:
        return True

    def admits(self, node_id: str, request: str) -> bool:
        return not self.perl and not node_id.startswith("perl")

    def incarnation_of(self, node_id: str) -> str:
        return "" if node_id.startswith("perl") else self.newest.get(node_id, "")

    def is_near(self, node_id: str) -> bool:
        return True

    def may_be_seed(self, node_id: str) -> bool:
        return True

    def up_nodes(self) -> list[str]:
        paper = self._paper
        return [node_id for node_id in {**paper.nodes, **{pair[0]: None for pair in paper.late}} if self.is_linked(node_id)]

    def later(self, seconds: float, function: Callable[[], None]) -> Any:
        timer = (self._paper.time + seconds, function)
        self._paper.timers.append(timer)

        class Timer:
            def cancel(_) -> None:  # noqa: N805
                if timer in self._paper.timers:
                    self._paper.timers.remove(timer)

        return Timer()

    def portable(self, key: str, value: Any) -> Any:
        return value

    def now(self) -> float:
        return self._paper.time

    def addresses(self) -> list[str]:
        return [f"127.0.0.1:{1000 + len(self.id)}"]


SEEDS = ["seed1", "seed2", "seed3"]


def everybody(paper: Paper, seeds: list[str]) -> list[tuple[str, str]]:
    return [(a, b) for a in sorted(paper.nodes) for b in sorted(paper.nodes) if a < b and (a in seeds or b in seeds)]


def check_one_view(paper: Paper, seeds: list[str], member: Callable[[str], str]) -> None:
    expected = {member(name) for name in paper.nodes}
    for name, node in paper.nodes.items():
        assert set(node.backbone.items("group")) == expected, name
        assert node.backbone.is_global == (name in seeds)
        if name not in seeds:
            assert node.backbone.master in seeds
        for other in paper.nodes:
            found: list[Any] = []
            node.backbone.find(other, found.append)
            paper.settle(random.Random(0))
            assert found == [paper.nodes[other].addresses()], (name, other)


@settings(max_examples=60, deadline=None)
@example(28, "seed3", "n4", True)
@given(
    st.integers(0, 2**32), st.sampled_from(["seed3", "perl-seed"]), st.sampled_from(["n4", "perl-slave"]), st.booleans()
)
def test_whatever_happens_on_the_way_all_nodes_see_the_same_in_the_end(
    seed: int, third: str, fourth: str, clocks_go_back: bool
) -> None:
    rng = random.Random(seed)
    paper = Paper()
    seeds = ["seed1", "seed2", third]
    names = [*seeds, "n1", "n2", "n3", fourth]
    generation = dict.fromkeys(names, 0)

    def member(name: str) -> str:
        return f"{name}#{generation[name]}"

    def start(name: str) -> None:
        generation[name] += 1
        number = rng.randrange(100) if clocks_go_back else 0
        paper.add(name, f"i{number:02}{generation[name]}", seeds)
        paper.nodes[name].backbone.set("group", member(name), generation[name])

    for name in names:
        start(name)
    for _ in range(60):
        what = rng.random()
        a, b = rng.choice(everybody(paper, seeds) or [("", "")])
        if what < 0.45:
            paper.link(a, b)
        elif what < 0.55:
            paper.cut(a, b, ended=rng.random() < 0.5, late=rng.choice(["", a, b]))
        elif what < 0.6:
            name = rng.choice(names)
            if name in paper.nodes:
                paper.kill(name, lambda other: rng.random() < 0.5)
            else:
                start(name)
        elif what < 0.65:
            paper.time += rng.random() * 4
        elif what < 0.75:
            name = rng.choice(sorted(paper.nodes) or [""])
            if name:
                paper.nodes[name].backbone.set("counters", name, rng.random())
        for _ in range(rng.randrange(20)):
            paper.deliver_one(rng)
    for name in names:
        if name not in paper.nodes:
            start(name)
    pairs = everybody(paper, seeds)
    rng.shuffle(pairs)
    for a, b in pairs:
        paper.link(a, b)
        for _ in range(rng.randrange(20)):
            paper.deliver_one(rng)
    paper.settle(rng)
    for a, b in pairs:
        paper.link(a, b)  # those that could not be linked before somebody had seen the end of the former link
    paper.settle(rng)
    paper.settle(rng, GRACE + 1)
    if clocks_go_back:
        paper.settle(rng, REMEMBERED + 1)  # a seed that was cut off when a node came back knows of the former one only
    check_one_view(paper, seeds, member)


def test_nobody_flaps_when_all_seeds_are_restarted_and_who_died_meanwhile_is_gone_soon() -> None:
    rng = random.Random(0)
    paper = Paper()
    seeds, members = ["seed1", "seed2"], ["n1", "n2", "n3"]
    for name in [*seeds, *members]:
        paper.add(name, "i1", seeds)
    for name in members:
        paper.nodes[name].backbone.set("group", f"{name}#1", None)
    for a, b in everybody(paper, seeds):
        paper.link(a, b)
    paper.settle(rng)
    for name in [*seeds, "n3"]:
        paper.kill(name)
    paper.settle(rng, 2)
    for name in seeds:
        paper.add(name, "i2", seeds)
    paper.link("n1", "seed1")
    paper.settle(rng, 1)  # its new master knows of nobody else yet
    n1 = paper.nodes["n1"]
    assert set(n1.backbone.items("group")) == {"n1#1", "n2#1", "n3#1"}
    for a, b in everybody(paper, seeds):
        paper.link(a, b)
    paper.settle(rng, GRACE - 2)
    assert n1.removed == []
    paper.settle(rng, 2)
    assert n1.removed == ["n3#1"]
    assert set(n1.backbone.items("group")) == {"n1#1", "n2#1"}


def taken_for_ended(rng: random.Random) -> Paper:
    """A proxy in front of seed2 ends each of its connections by a FIN, though all live: seed1, and its slave n1."""
    paper = Paper()
    seeds = ["seed1", "seed2"]
    for name in [*seeds, "n1"]:
        paper.add(name, "i1", seeds)
    paper.nodes["n1"].backbone.set("group", "n1#1", None)
    paper.link("n1", "seed1")  # its master
    for a, b in everybody(paper, seeds):
        paper.link(a, b)
    paper.settle(rng)
    for other in ("seed1", "n1"):
        paper.cut("seed2", other, ended=True)
    paper.settle(rng, 0.1)
    return paper


def test_a_node_whose_connection_somebody_else_closed_is_back_with_it() -> None:
    rng = random.Random(0)
    paper = taken_for_ended(rng)
    for other in ("n1", "seed1"):
        paper.link("seed2", other)
        paper.settle(rng)
    assert paper.nodes["n1"].backbone.master == "seed1"
    assert set(paper.nodes["seed2"].backbone.items("group")) == {"n1#1"}


def test_a_seed_asks_again_about_a_node_that_it_took_for_ended_and_another_seed_has() -> None:
    rng = random.Random(0)
    paper = taken_for_ended(rng)
    paper.link("seed2", "seed1")
    paper.settle(rng)
    assert paper.nodes["seed2"].backbone.registry.directory.view("group") == {}
    paper.settle(rng, REMEMBERED + 1)
    assert set(paper.nodes["seed2"].backbone.registry.directory.view("group")) == {"n1#1"}


@pytest.mark.parametrize("attached_first", [True, False])
def test_the_late_words_of_a_former_incarnation_do_not_oust_the_one_that_lives(*, attached_first: bool) -> None:
    """It has attached to another seed just before it died, and that seed hears so late that it knows of the next already."""
    rng = random.Random(0)
    paper = Paper()
    seeds = ["seed1", "seed2"]
    for name in [*seeds, "n1", "n2"]:
        paper.add(name, "i1", seeds)
    paper.nodes["n1"].backbone.set("group", "n1#1", None)
    paper.link("n1", "seed1")  # its master
    for a, b in everybody(paper, seeds):
        paper.link(a, b)
    paper.settle(rng)
    paper.cut("n1", "seed1")
    assert paper.nodes["n1"].backbone.master == "seed2"
    paper.kill("n1", lambda other: True)  # what it has told seed2 is on the way
    late = paper.queues.pop(("n1", "seed2"))
    paper.add("n1", "i2", seeds)
    paper.nodes["n1"].backbone.set("group", "n1#2", None)
    if attached_first:
        paper.link("n1", "seed1")
        paper.settle(rng)
        assert set(paper.nodes["n2"].backbone.items("group")) == {"n1#2"}
    else:
        paper.link("n1", "seed1")
    paper.queues["n1", "seed2"] = late
    paper.settle(rng)
    paper.link("n1", "seed2")
    paper.settle(rng)
    paper.settle(rng, GRACE + 1)
    for name in paper.nodes:
        assert set(paper.nodes[name].backbone.items("group")) == {"n1#2"}, name


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_nobody_flaps_when_the_masters_are_killed_one_after_another(seed: int) -> None:
    rng = random.Random(seed)
    paper = Paper()
    members = ["n1", "n2", "n3", "n4"]
    for name in [*SEEDS, *members]:
        paper.add(name, "i1", SEEDS)
    for name in members:
        paper.nodes[name].backbone.set("group", f"{name}#1", None)
    pairs = everybody(paper, SEEDS)
    rng.shuffle(pairs)
    for a, b in pairs:
        paper.link(a, b)
    paper.settle(rng)
    order = rng.sample(SEEDS, 2)
    for dead in order:
        paper.kill(dead)
        paper.settle(rng, rng.random())
        paper.settle(rng, GRACE + 1)
    for name, node in paper.nodes.items():
        assert node.removed == [], name
        assert set(node.backbone.items("group")) == {f"{name}#1" for name in members}


# ---- Perl nodes without a master


class Clock:
    """A `Ground` for `Unattached`, with a time of its own; `asked` has who was asked to attach, and when."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []
        self.time = 0.0
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> float:
        return self.time

    def later(self, seconds: float, function: Callable[[], None]) -> Cancellable:
        timer = (self.time + seconds, function)
        self._timers.append(timer)
        return Undo(lambda: self._timers.remove(timer))

    def request(self, node_id: str, *_: Any) -> None:
        self.asked.append((self.time, node_id))

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        while self._timers and min(self._timers)[0] <= end:
            timer = min(self._timers, key=lambda timer: timer[0])
            self._timers.remove(timer)
            self.time = timer[0]
            timer[1]()
        self.time = end


class Undo(NamedTuple):
    """What `Clock.later` gives."""

    cancel: Callable[[], None]


def looked_after(*attached: str) -> tuple[Clock, Unattached, set[str]]:
    clock, reported = Clock(), set(attached)
    return clock, Unattached(cast("Ground", clock), reported.__contains__), reported


def test_a_perl_node_that_nobody_reports_is_asked_less_and_less_often() -> None:
    clock, unattached, reported = looked_after("attached")
    for node_id in ("attached", "without"):
        unattached.node_up(node_id)
    clock.run(300)
    assert clock.asked == [(time, "without") for time in (6, 18, 42, 90, 150, 210, 270)]
    reported.add("without")
    clock.run(300)
    reported.clear()
    unattached.stop()
    unattached.seed_lost()
    unattached.node_up("late")
    clock.run(300)
    assert len(clock.asked) == 7


def test_a_perl_node_that_never_answers_keeps_no_other_one_waiting() -> None:
    clock, unattached, reported = looked_after("other")
    unattached.node_up("secure")
    unattached.node_up("other")
    clock.run(271)
    reported.clear()
    unattached.seed_lost()
    clock.run(6)
    assert (277, "other") in clock.asked
    unattached.node_up("late")
    clock.run(6)
    assert (283, "late") in clock.asked


def test_a_perl_node_that_loses_its_master_alone_is_found() -> None:
    """Its connection with the master has ended, and both live: no seed is lost, and the node does not notice."""
    clock, unattached, reported = looked_after("perl")
    unattached.node_up("perl")
    clock.run(65)
    reported.clear()
    clock.run(2)
    reported.add("perl")  # it was only between two masters when it was looked at
    clock.run(1000)
    assert not clock.asked
    reported.clear()
    clock.run(66)
    assert clock.asked[0] == (1098, "perl")
