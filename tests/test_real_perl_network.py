"""Networks of gmp nodes and of nodes of Perl's own AnyEvent::MP 2.02: the directory, seeds that are lost, restarts.

They run where the modules are: see `tests.real_perl`.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

import gmp

from .addresses import free_address
from .conftest import Recorder, eventually
from .processes import Child, Processes
from .real_perl import RealPerl

MakeNode = Callable[..., gmp.Node]
MakePerl = Callable[..., RealPerl]
MASTER = "$AnyEvent::MP::Kernel::MASTER"
WATCH = """
   $kept{Things} = db_mon Things => sub {
      my ($all, @lists) = @_;
      report things => { %$all }, map [sort @{ $_ || [] }], @lists;
   };
   ()
"""
VALUES: list[Any] = [1, -5, 2.5, None, "text", "", "t\u00e4g", "\u20ac", [1, [2, []]], {"key": {"k": None}}, 2**40, 0]


def literal(value: Any) -> str:
    """Perl code that gives that value, its texts as octets, as in a program without ``use utf8``."""
    octets = json.dumps(value, ensure_ascii=False).encode()
    return f'JSON::XS->new->allow_nonref->decode ("{octets.hex()}" =~ s/(..)/chr hex $1/ger)'


def in_perl(value: Any) -> Any:
    """What Perl has of a value: each text as its octets in UTF-8."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode().decode("latin-1"))


@pytest.fixture(params=[("gmp", "json"), ("gmp", "cbor"), ("Perl", "json"), ("Perl", "cbor")], ids="-seed-".join)
def pair(request: pytest.FixtureRequest, make_node: MakeNode, make_perl: MakePerl) -> tuple[gmp.Node, RealPerl]:
    """A gmp node and a Perl node, one of them the seed of the other."""
    seed, framing = request.param
    if seed == "gmp":
        node = make_node("gmp")
        perl = make_perl(seeds=tuple(node.binds), framing=framing)
    else:
        perl = make_perl(framing=framing)
        node = make_node("gmp", seeds=perl.binds)
    node.wait_up("PerlA", timeout=20)
    perl.wait_up("gmp")
    return node, perl


def test_each_kind_of_value_goes_through_the_directory_both_ways(pair: tuple[gmp.Node, RealPerl]) -> None:
    """Set, overwritten with an equal value and with another, deleted; with what monitors are called with."""
    node, perl = pair
    family, seen = node.family("Things"), Recorder()
    with family.monitor(seen):
        seen.wait(timeout=20)
        perl.run(WATCH)
        assert perl.expect("things") == [{}, [], [], []]
        for value in VALUES:
            family.set("ours", value)
            assert perl.expect("things") == [{"ours": in_perl(value)}, ["ours"], [], []]
            family.set("ours", value)  # equal: nobody is told
            family.set("ours", [value, "changed"])
            assert perl.expect("things") == [{"ours": [in_perl(value), "changed"]}, [], ["ours"], []]
            family.delete("ours")
            assert family.items() == {}
            assert perl.expect("things") == [{}, [], [], ["ours"]]
        gevent.sleep(0)
        seen.calls.clear()
        for value in VALUES:
            perl.run(f"db_set Things => theirs => {literal(value)}; ()")
            items, *lists = seen.wait(timeout=20)[-1]
            assert [dict(items), *map(list, lists)] == [{"theirs": value}, ["theirs"], [], []]
            seen.calls.clear()
            perl.run(f"db_set Things => theirs => {literal(value)}; db_del Things => 'theirs'; ()")
            eventually(lambda: family.items() == {})
            eventually(lambda: len(seen.calls) == 1)
            seen.calls.clear()


def test_a_perl_seed_passes_every_value_on_in_both_framings(make_node: MakeNode, make_perl: MakePerl) -> None:
    """What it could not write in one of them it would tell nobody, nor what comes with it."""
    seed = make_perl("seed", framing_format=["cbor", "json"])
    node = make_node("gmp", seeds=seed.binds)
    slaves = [make_perl(name, seeds=tuple(seed.binds), framing_format=[name]) for name in ("json", "cbor")]
    node.wait_up("seed", timeout=20)
    for slave in slaves:
        slave.wait_up("seed")
        slave.run(WATCH)
        assert slave.expect("things") == [{}, [], [], []]
    big = [2**64, -(2**63), -(2**64), 10**30, -(10**30)]
    plain = [*VALUES, True, False, 2**63, 2**64 - 1, 1e300, "\uffff", "\x00"]
    pairs = [*((value, in_perl(value)) for value in plain), *((value, str(value)) for value in big)]
    pairs += [(b"\xff", "\xff"), (gmp.Characters("\u20ac"), "\u20ac")]
    for value, perls in pairs:
        node.family("Things").set("key", [value, {"inner": value}])
        for slave in slaves:
            assert slave.expect("things")[0] == {"key": [perls, {"inner": perls}]}
    node.family("Things").set("key", big)
    for slave in slaves:
        assert slave.expect("things")[0] == {"key": [*map(str, big)]}
    late = make_perl("late", seeds=tuple(seed.binds), framing_format=["json"])
    late.wait_up("seed")
    late.run(WATCH)
    eventually(lambda: any(report[1] == {"key": [*map(str, big)]} for report in late.heard))


# ---- seeds that are lost


def start_seeds(processes: Processes, count: int) -> list[Child]:
    """gmp nodes that are one another's seeds."""
    seeds: list[Child] = []
    for number in range(count):
        seeds.append(processes.start(f"seed{number}", *(seed.bind for seed in seeds)))
    return seeds


def register(perl: RealPerl) -> str:
    """A port of a Perl node in the group of the workers; returns its ID."""
    port: str = perl.run("$kept{worker} = port { snd pop, $NODE }; db_set Workers => $kept{worker}, 1; $kept{worker}")[0]
    return port


GUIDE = Path(__file__).parent.parent / "docs" / "guides" / "perl.md"
OWN_WATCH = re.findall(r"our \$WATCH.*?(?=```)", GUIDE.read_text(), re.DOTALL)[0]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seeds_are", ["gmp", "gmp, seen by a secure node", "Perl"])
def test_a_perl_nodes_groups_outlive_each_of_its_seeds_but_the_last(
    make_node: MakeNode, make_perl: MakePerl, processes: Processes, seeds_are: str
) -> None:
    """It watches its master until another seed has taken over, and no longer: gmp seeds see to the rest, or the program."""
    seeds: list[Child | RealPerl] = []
    for number in range(4):
        binds = [_bind(seed) for seed in seeds]
        perl_seed = seeds_are == "Perl"
        name = f"seed{number}"
        seeds.append(make_perl(name, seeds=tuple(binds)) if perl_seed else processes.start(name, *binds))
    binds = [_bind(seed) for seed in seeds]
    perl = make_perl(seeds=tuple(binds), secure=int("secure" in seeds_are))
    if seeds_are != "gmp":
        perl.run(f"{OWN_WATCH} ()")
    node = make_node("gmp", seeds=binds)
    for seed in seeds:
        perl.wait_up(seed.node_id)
        node.wait_up(seed.node_id, timeout=20)
    port = register(perl)
    group = node.group("Workers")
    group.wait(timeout=20)
    perl.run(WATCH)
    for number in range(3):
        (master,) = perl.run(MASTER)
        (lost,) = [seed for seed in seeds if seed.node_id == master]
        lost.kill(signal.SIGKILL)
        eventually(lambda master=master: perl.run(MASTER) not in ([master], [None]), timeout=30)
        eventually(lambda: port in group.members(), timeout=30)
        assert node.call(port, "who", timeout=20) == ("PerlA",)
        perl.heard.clear()
        node.family("Things").set("round", number)
        eventually(lambda number=number: any(report[1].get("round") == number for report in perl.heard), timeout=20)


def _bind(seed: Child | RealPerl) -> str:
    return seed.bind if isinstance(seed, Child) else seed.binds[0]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_perl_nodes_groups_come_back_when_its_master_was_restarted(
    make_node: MakeNode, make_perl: MakePerl, processes: Processes
) -> None:
    """A master that it does not watch any more comes back under the same ID and knows nothing of it."""
    first, second = make_node("seed0"), make_node("seed1")
    perl = make_perl(seeds=(*first.binds, *second.binds))
    for seed in (first, second):
        perl.wait_up(seed.id)
    port = register(perl)
    (master,) = perl.run(MASTER)
    before, after = (first, second) if master == "seed0" else (second, first)
    binds = {seed: list(seed.binds) for seed in (before, after)}
    before.close()
    eventually(lambda: perl.run(MASTER) == [after.id])
    after.close()  # it is not watched: Perl does not notice
    eventually(lambda: perl.run(f'node_is_up "{after.id}" ? 1 : 0') == [0])
    assert perl.run(MASTER) == [after.id]
    again = make_node(after.id, binds=binds[after])
    assert again.group("Workers").wait(timeout=60) == {port: 1}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gmp", "Perl"])
def test_a_master_that_is_stopped_keeps_nobody_from_being_found(
    make_node: MakeNode, make_perl: MakePerl, processes: Processes, kind: str
) -> None:
    """Its kernel goes on answering, so it is not lost for long: another seed is asked."""
    seeds: dict[str, Child | RealPerl] = {}
    if kind == "gmp":
        seeds.update({seed.node_id: seed for seed in start_seeds(processes, 2)})
        binds = [seed.bind for seed in processes.children]
    else:
        first = seeds["seed0"] = make_perl("seed0")
        second = seeds["seed1"] = make_perl("seed1", seeds=tuple(first.binds))
        binds = [*first.binds, *second.binds]
    target = make_perl("target", seeds=tuple(binds))
    node = make_node("gmp", seeds=binds)
    for seed in seeds:
        target.wait_up(seed)
        node.wait_up(seed, timeout=20)
    port = register(target)
    eventually(lambda: port in node.group("Workers").members())
    eventually(lambda: node._core.mesh.backbone.master is not None)
    stopped = seeds[str(node._core.mesh.backbone.master)]
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        assert node.call(port, "who", timeout=10) == ("target",)
        gevent.sleep(15)
        assert node.is_up(stopped.node_id)
        assert node.call(port, "who", timeout=10) == ("target",)
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
    assert node.call(stopped.node_id, "time", timeout=20)
    assert node.group("Workers").members() == {port: 1}


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_a_gmp_seed_and_a_perl_seed_tell_each_other_what_their_nodes_have(
    make_node: MakeNode, make_perl: MakePerl, framing: str
) -> None:
    """And a Perl seed that is killed comes back under its ID, and is told everything again."""
    bind = free_address()
    seed = make_node("seed0", seeds=[bind])
    perl_seed = make_perl("seed1", binds=(bind,), seeds=(*seed.binds, bind), framing=framing)
    seed.wait_up("seed1", timeout=20)
    near = make_perl("near", seeds=tuple(seed.binds), framing=framing)
    far = make_perl("far", seeds=(bind,), framing=framing)
    node = make_node("gmp", seeds=[bind])
    expected = {register(near): 1, register(far): 1}
    for each in (seed, node):
        assert each.group("Workers").wait(2, timeout=20) == expected
        for port in expected:
            assert each.call(port, "who", timeout=20) == (gmp.node_of(port),)
    for perl in (near, far):
        perl.run("$kept{workers} = db_mon Workers => sub { report workers => sort keys %{ $_[0] } }; ()")
        while perl.expect("workers") != sorted(expected):
            pass
    perl_seed.kill()
    far_port = next(port for port in expected if gmp.node_of(port) == "far")
    eventually(lambda: far_port not in seed.group("Workers").members())
    make_perl("seed1", binds=(bind,), seeds=(*seed.binds, bind), framing=framing)
    for each in (seed, node):
        assert each.group("Workers").wait(2, timeout=50) == expected
        for port in expected:
            assert each.call(port, "who", timeout=20) == (gmp.node_of(port),)


# ---- restarts and sudden ends


@pytest.mark.parametrize("framing", ["json", "cbor"])
@pytest.mark.parametrize("seeds", ["gmp", "Perl"])
def test_a_perl_node_that_is_killed_is_missed_at_once_and_found_at_once_when_it_is_back(
    make_node: MakeNode, make_perl: MakePerl, seeds: str, framing: str
) -> None:
    binds = make_node("seed").binds if seeds == "gmp" else make_perl("seed", framing=framing).binds
    node = make_node("gmp", seeds=binds)
    node.wait_up("seed", timeout=20)
    for _ in range(3):
        perl = make_perl(seeds=tuple(binds), framing=framing)
        perl.wait_up("seed")
        port, died, node_died = register(perl), Recorder(), Recorder()
        begun = time.monotonic()
        assert node.group("Workers").wait(timeout=20) == {port: 1}
        assert node.call(port, "who", timeout=20) == ("PerlA",)
        assert time.monotonic() - begun < 5.0  # seconds; it was 10 when a way was asked for through nodes that know of none
        node.monitor(port, died)
        node.monitor("PerlA", node_died)
        node.call("PerlA", "time", timeout=20)
        perl.kill()
        assert died.wait(timeout=20)[0][:2] == node_died.wait(timeout=20)[0][:2] == ("transport_error", "PerlA")
        eventually(lambda: node.group("Workers").members() == {})


@pytest.mark.parametrize("framing", ["json", "cbor"])
@pytest.mark.parametrize("seeds", ["gmp", "Perl"])
def test_a_gmp_node_that_is_killed_is_missed_at_once_and_found_at_once_when_it_is_back(
    make_node: MakeNode, make_perl: MakePerl, processes: Processes, seeds: str, framing: str
) -> None:
    seed = make_node("seed") if seeds == "gmp" else make_perl("seed", framing=framing)
    perl = make_perl(seeds=tuple(seed.binds), framing=framing)
    perl.wait_up("seed")
    perl.run("$kept{children} = db_mon children => sub { report children => sort keys %{ $_[0] } }; ()")
    for _ in range(3):
        child = processes.start("child", *seed.binds)
        while not (ports := perl.expect("children")):
            pass
        (port,) = ports
        perl.run(f'cal "{port}", hello => 1, sub {{ report echoed => @_ }}, 10; ()')
        assert perl.expect("echoed") == ["echo", "hello", 1]
        perl.run(f'mon "{port}", sub {{ report died => @_ }}; ()')
        child.kill(signal.SIGKILL)
        assert perl.expect("died")[:2] == ["transport_error", "child"]
        while perl.expect("children"):
            pass


def test_a_gmp_node_that_leaves_tells_perl_so(make_node: MakeNode, make_perl: MakePerl) -> None:
    perl = make_perl()
    node = make_node("gmp", seeds=perl.binds)
    node.wait_up("PerlA", timeout=20)
    port = node.port()
    perl.run(f'mon "{port.id}", sub {{ report died => @_ }}; ()')
    perl.wait_up("gmp")
    node.call("PerlA", "time", timeout=20)
    node.close()
    assert perl.expect("died") == ["leaving", "gmp"]


def test_what_waits_for_a_perl_node_that_cannot_read_it_is_dropped_alone(
    make_node: MakeNode, make_perl: MakePerl, caplog: pytest.LogCaptureFixture
) -> None:
    node = make_node("gmp")
    node.send("PerlA", "main::report", "waited", "before")
    node.send("PerlA", "main::report", "waited", float("nan"))
    node.send("PerlA", "main::report", "waited", "after")
    perl = make_perl(seeds=tuple(node.binds), framing="json")
    assert [perl.expect("waited") for _ in range(2)] == [["before"], ["after"]]
    assert "node PerlA reads json only, which cannot carry what was sent before it was connected" in caplog.text
    with pytest.raises(gmp.MessageError):
        node.send("PerlA", "main::report", "waited", float("nan"))
    node.send("PerlA", "main::report", "waited", "later")
    assert perl.expect("waited") == ["later"]


@pytest.mark.parametrize("framing", ["json", "cbor"])
def test_a_perl_node_that_listens_nowhere_is_reached_by_who_listens_and_by_nobody_else(
    make_node: MakeNode, make_perl: MakePerl, framing: str
) -> None:
    """It dials who listens, as the seed lets it send there; nothing is relayed to it, and who wants that is told at once."""
    seed = make_node("seed")
    perl = make_perl(binds=(), seeds=tuple(seed.binds), framing=framing)
    perl.wait_up("seed")
    port = register(perl)
    public, private = make_node("public", seeds=seed.binds), make_node("private", seeds=seed.binds, binds=[])
    for node in (public, private):
        assert node.group("Workers").wait(timeout=20) == {port: 1}
    assert public.call(port, "who", timeout=20) == ("PerlA",)
    reasons, begun = Recorder(), time.monotonic()
    private.monitor(port, reasons)
    ((kind, node_id, text),) = reasons.wait(timeout=20)
    assert time.monotonic() - begun < 8.0  # seconds, and not the 10 of `connect_timeout`
    assert (kind, node_id) == ("transport_error", "PerlA")
    assert "PerlA is no gmp node, and nothing can be relayed to it" in text


@pytest.mark.parametrize("seeds", ["gmp", "Perl"])
def test_a_gmp_node_that_listens_nowhere_is_reached_once_it_has_sent_something(
    make_node: MakeNode, make_perl: MakePerl, seeds: str
) -> None:
    seed = make_node("seed") if seeds == "gmp" else make_perl("seed")
    perl = make_perl(seeds=tuple(seed.binds))
    perl.wait_up("seed")
    node = make_node("private", seeds=seed.binds, binds=[])
    node.wait_up("seed", timeout=20)
    port = node.port()
    port.on("ask", lambda reply: node.send(reply, "here"))
    ask = f'cal "{port.id}", ask => sub {{ report asked => @_ }}, 10; ()'
    perl.run(f'mon "{port.id}", sub {{ report died => @_ }}; {ask}')
    assert perl.expect("died") == ["transport_error", "private", "no known address"]
    assert node.call("PerlA", "time", timeout=20)
    perl.run(ask)
    assert perl.expect("asked", "here") == []


# ---- all of it at once


class Mixed:
    """Two gmp seeds, a Perl seed, three more nodes of each kind; each has a port in the group of the workers."""

    def __init__(self, make_node: MakeNode, make_perl: MakePerl, rng: random.Random) -> None:
        self._make_node, self._make_perl, self._rng = make_node, make_perl, rng
        self._seeds = {"seed0": free_address(), "seed1": free_address(), "PerlSeed": free_address()}
        self._ports: dict[str, gmp.Port] = {}
        self.nodes: dict[str, gmp.Node | RealPerl] = {}
        for name in (*self._seeds, *(f"{kind}{number}" for kind in ("gmp", "Perl") for number in range(3))):
            self.start(name)

    def start(self, name: str) -> None:
        binds = (self._seeds.get(name, "127.0.0.1:0"),)
        seeds = tuple(self._seeds.values())
        if name.startswith("Perl"):
            perl = self._make_perl(name, binds=binds, seeds=seeds, framing=self._rng.choice(["json", "cbor"]))
            register(perl)
            perl.run("$kept{mon} = db_mon Workers => sub { $kept{all} = { %{ $_[0] } } }; ()")
            self.nodes[name] = perl
            return
        node = self._make_node(name, binds=binds, seeds=seeds)
        port = self._ports[name] = node.port()
        port.on("who", lambda reply: node.send(reply, name))
        node.group("Workers").join(port, 1)
        self.nodes[name] = node

    def restart(self, name: str) -> None:
        node = self.nodes[name]
        if isinstance(node, RealPerl):
            node.kill()
        node.close()
        gevent.sleep(self._rng.choice([0, 0.2, 1.0]))
        self.start(name)

    def _workers(self) -> set[str]:
        return {
            node.run("$kept{worker}")[0] if isinstance(node, RealPerl) else self._ports[name].id
            for name, node in self.nodes.items()
        }

    def _seen_by(self, node: gmp.Node | RealPerl) -> set[str]:
        if not isinstance(node, RealPerl):
            return set(node.group("Workers").members())
        # a seed's monitors miss what is there when they begin: `db_mon` clears the copy after the answer that came at once
        known = "$AnyEvent::MP::Kernel::GLOBAL ? $AnyEvent::MP::Kernel::GLOBAL_DB{Workers} : $kept{all}"
        return set(node.run(f"keys %{{ ({known}) || {{}} }}"))

    def is_settled(self) -> bool:
        """Whether each node sees all workers, and no other."""
        workers = self._workers()
        return all(self._seen_by(node) == workers for node in self.nodes.values())


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_in_a_mixed_network_everybody_sees_every_group_whoever_is_restarted(
    make_node: MakeNode, make_perl: MakePerl
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    rng = random.Random(seed)
    network = Mixed(make_node, make_perl, rng)
    eventually(network.is_settled, timeout=60)
    for _ in range(12):
        for _ in range(rng.randint(1, 3)):
            network.restart(rng.choice(list(network.nodes)))
            gevent.sleep(rng.choice([0, 0.5]))
        eventually(network.is_settled, timeout=90)
