"""Where a node listens, what it announces, and how names of seeds are resolved."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.socket
import pytest

import gmp
from gmp.config import Address, parse_bind, parse_seed
from gmp.net import listening, names
from gmp.net.machine import Machine
from gmp.testing.leaks import open_sockets
from tests.conftest import eventually

MakeNode = Callable[..., gmp.Node]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


HAS_IPV6 = has_ipv6()
needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("*", ("*", 0)),
        ("*:*", ("*", 0)),
        ("*:4040", ("*", 4040)),
        (":4040", ("*", 4040)),
        ("host", ("host", 0)),
        ("host:*", ("host", 0)),
        ("[::1]:4040", ("::1", 4040)),
        ("[::1]", ("::1", 0)),
    ],
)
def test_binds_are_written_in_many_ways(text: str, address: tuple[str, int]) -> None:
    assert parse_bind(text) == address


@pytest.mark.parametrize(("text", "hint"), [("4040", "':4040'"), ("a:b", "'b' is no TCP port"), ("::1:4040", "in brackets")])
def test_a_bind_that_cannot_be_meant_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(gmp.ConfigError, match=hint):
        gmp.Node("n", binds=[text])


@pytest.mark.parametrize("text", ["host", "host:0", ":4040", "*:4040", "srv+", "srv+_gmp._tcp.example.org:4040"])
def test_a_seed_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(gmp.ConfigError, match="seed"):
        gmp.Node("n", seeds=[text])


def test_a_star_is_every_address_and_announces_numbers_with_loopback_last(make_node: MakeNode) -> None:
    node = make_node("star", binds=["*"])
    ports = {int(bind.rpartition(":")[2]) for bind in node.binds}
    assert len(ports) == 1
    assert node.binds[0].startswith("0.0.0.0:")
    assert len(node.binds) == (2 if HAS_IPV6 else 1)
    announced = node._core.network.announced()
    assert f"127.0.0.1:{ports.pop()}" in announced
    loopback = [names.family_of(each) is None and each.startswith(("127.", "[::1]")) for each in announced]
    assert loopback == sorted(loopback)
    other = make_node("other", seeds=[announced[-1]])
    other.wait_up("star", timeout=20)


@needs_ipv6
def test_nodes_talk_over_ipv6(make_node: MakeNode) -> None:
    seed = make_node("seed", binds=["[::1]:0"])
    one = make_node("one", binds=["[::1]"], seeds=seed.binds)
    two = make_node("two", binds=["[::1]:*"], seeds=seed.binds)
    assert one.call("two", "time", timeout=20)
    assert two.binds[0].startswith("[::1]:")


def test_a_name_is_each_of_its_addresses(make_node: MakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: Any, *_: Any) -> list[Any]:
        assert host == "two.example.org"
        return [(socket.AF_INET, 1, 6, "", (number, port)) for number in ("127.0.0.2", "127.0.0.3", "127.0.0.2")]

    monkeypatch.setattr(gevent.socket, "getaddrinfo", getaddrinfo)
    node = make_node("two", binds=["two.example.org:0"])
    assert [bind.rpartition(":")[0] for bind in node.binds] == ["127.0.0.2", "127.0.0.3"]


def test_a_bind_that_fails_names_it_and_why_and_leaves_nothing_open(make_node: MakeNode) -> None:
    taken = make_node("taken").binds[0]
    before = open_sockets()
    for bind, why in ((taken, "in use"), ("192.0.2.1:0", "assign requested"), ("no.such.host.invalid", "resolved")):
        with pytest.raises(gmp.ConfigError, match=why) as caught:
            gmp.Node("n", binds=["127.0.0.1:0", bind], secret="geheim").start()
        assert bind.partition(":")[0] in str(caught.value)
        assert open_sockets() == before


def test_a_free_port_is_free_on_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = listening._listen, []

    def sometimes(machine: Machine, host: str, port: int) -> Any:
        tries.append((host, port))
        if host == "::" and len(tries) < 4:
            raise OSError(98, "Address already in use")
        return real(machine, "127.0.0.1" if host == "::" else host, 0 if host == "::" else port)

    monkeypatch.setattr(listening, "_listen", sometimes)
    listeners = listening._open(Machine(), Address("*", 0))
    assert [host for host, _ in tries] == ["0.0.0.0", "::"] * 2
    for listener in listeners:
        listener.close()


def test_advertise_replaces_what_is_announced(make_node: MakeNode) -> None:
    node = make_node("n", binds=["127.0.0.1:0"], advertise=["gate.example.org", "203.0.113.5:99"])
    port = node.binds[0].rpartition(":")[2]
    assert node._core.network.announced() == [f"gate.example.org:{port}", "203.0.113.5:99"]
    with pytest.raises(gmp.ConfigError, match="without a port"):
        make_node("m", binds=[], advertise=["gate.example.org"])
    with pytest.raises(gmp.ConfigError, match="advertised address"):
        make_node("o", advertise=["*:1"])


def test_a_seed_by_name_is_resolved_at_each_try_and_all_its_addresses_are_seeds(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_node("one", binds=["127.0.0.2:0"])
    port = int(one.binds[0].rpartition(":")[2])
    answers: list[Any] = [OSError("no such name"), [], ["127.0.0.2"]]

    def getaddrinfo(host: str, port: Any, *_: Any) -> list[Any]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, OSError):
            raise answer
        return [(socket.AF_INET, 1, 6, "", (number, port)) for number in answer]

    monkeypatch.setattr(gevent.socket, "getaddrinfo", getaddrinfo)
    node = make_node("node", seeds=[f"seeds.example.org:{port}"])
    node.wait_up("one", timeout=20)
    two = make_node("two", binds=[f"127.0.0.3:{port}"], seeds=[])
    answers[:] = [["127.0.0.3", "127.0.0.2"]]
    for seed in node._core.mesh._seeds.seeds:
        seed.refresh = 0.0  # in place of 30 s
    node._core.mesh._seeds.poke()
    eventually(lambda: node.is_up(two.id))
    assert node.stats()["seeds"][0]["address"] == f"seeds.example.org:{port}"


class DnsServer:
    """Answers every question on one UDP port with the given SRV and A records."""

    def __init__(self, records: dict[tuple[str, str], list[str]]) -> None:
        self.records = records
        self.socket = gevent.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.greenlet = gevent.spawn(self._serve)

    def _serve(self) -> None:
        import dns.message
        import dns.rcode
        import dns.rdatatype
        import dns.rrset

        while True:
            data, address = self.socket.recvfrom(4096)
            query = dns.message.from_wire(data)
            question = query.question[0]
            kind = dns.rdatatype.to_text(question.rdtype)
            answer = dns.message.make_response(query)
            found = self.records.get((str(question.name), kind))
            if found is None:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            else:
                answer.answer.append(dns.rrset.from_text(question.name, 5, "IN", kind, *found))
            self.socket.sendto(answer.to_wire(), address)

    def close(self) -> None:
        self.greenlet.kill()
        self.socket.close()


@pytest.fixture
def dns_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[DnsServer]:
    resolver_module = pytest.importorskip("dns.resolver", reason="needs dnspython, the extra dns")
    server = DnsServer({})
    resolver = resolver_module.Resolver(configure=False)
    resolver.nameservers, resolver.port, resolver.lifetime = ["127.0.0.1"], server.port, 5.0
    monkeypatch.setattr(resolver_module, "default_resolver", resolver)
    yield server
    server.close()


def test_seeds_are_found_by_dns_srv(make_node: MakeNode, dns_server: DnsServer) -> None:
    one, two = make_node("one"), make_node("two")
    node = make_node("node", seeds=["srv+_gmp._tcp.example.org"])
    eventually(lambda: "cannot be resolved" in node.stats()["seeds"][0]["error"])
    dns_server.records["_gmp._tcp.example.org.", "SRV"] = [
        f"{priority} 0 {other.binds[0].rpartition(':')[2]} 127.0.0.1." for priority, other in ((20, one), (10, two))
    ]
    node.wait_up("one", timeout=20)
    node.wait_up("two", timeout=20)
    assert parse_seed("srv+_gmp._tcp.example.org") == ("srv+_gmp._tcp.example.org", 0)


def test_without_dnspython_a_seed_by_srv_is_an_error_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(names.importlib, "import_module", missing)
    with pytest.raises(gmp.ConfigError, match=r"pip install 'gevent-mp\[dns\]'"):
        gmp.Node("n", seeds=["srv+_gmp._tcp.example.org"], secret="geheim").start()
