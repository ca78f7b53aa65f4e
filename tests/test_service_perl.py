"""Perl nodes call a service by plain messages, in the form that docs/protocol.md fixes, and offer one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent.event
import pytest

import gmp

from .conftest import eventually
from .real_perl import RealPerl

MakeNode = Callable[..., gmp.Node]
MakePerl = Callable[..., RealPerl]


class Jobs:
    def __init__(self) -> None:
        self.begun = gevent.event.Event()
        self.ended = False

    def add(self, a: int, b: int = 0) -> int:
        return a + b

    def fail(self) -> None:
        raise LookupError("green", 7)

    def rows(self, count: int) -> Iterator[int]:
        yield from range(count)

    def wait(self) -> None:
        self.begun.set()
        try:
            gevent.sleep(3600)
        finally:
            self.ended = True


@pytest.fixture(params=["json", "cbor"])
def link(request: pytest.FixtureRequest, make_node: MakeNode, make_perl: MakePerl) -> tuple[gmp.Node, RealPerl]:
    node = make_node("gmp", secret="geheim")
    perl = make_perl(framing=request.param, seeds=tuple(node.binds), secret="geheim")
    node.wait_up("PerlA", timeout=20)
    perl.wait_up("gmp")
    return node, perl


def reply(perl: RealPerl, message: str, **values: str) -> list[Any]:
    """What comes to a reply port after that message was sent."""
    given = "; ".join(f'my ${name} = "{value}"' for name, value in values.items())
    perl.run(f'{given}; my $reply = reporter "reply"; snd $jobs, {message}, $reply')
    heard = perl.expect("reply")
    return heard


def test_a_perl_node_calls_methods(link: tuple[gmp.Node, RealPerl]) -> None:
    node, perl = link
    thing = Jobs()
    port = gmp.expose(thing, node=node)
    assert reply(perl, 'call => "add", [1, 2]', jobs=port.id) == ["return", 3]
    assert reply(perl, 'call => "add", [1], { b => 3 }', jobs=port.id) == ["return", 4]
    assert reply(perl, 'call => "add", [1], undef, { timeout => 10 }', jobs=port.id) == ["return", 1]
    tag, kind, text, arguments, trace, declared = reply(perl, 'call => "fail", []', jobs=port.id)
    assert (tag, kind, text, arguments, declared) == ("raise", "LookupError", "('green', 7)", ["green", 7], None)
    assert 'raise LookupError("green", 7)' in trace
    assert reply(perl, 'call => "nonsense", []', jobs=port.id)[:2] == ["refused", "no_method"]
    assert reply(perl, "describe =>", jobs=port.id)[0] == "described"


def test_a_perl_node_reads_a_stream(link: tuple[gmp.Node, RealPerl]) -> None:
    node, perl = link
    port = gmp.expose(Jobs(), node=node)
    tag, source, token = reply(perl, 'call => "rows", [3]', jobs=port.id)
    assert tag == "stream"
    perl.run(f'my $reader = reporter "row"; snd "{source}", more => 10, $reader, "{token}"')
    assert [perl.expect("row") for _ in range(4)] == [["item", 0], ["item", 1], ["item", 2], ["end"]]


def test_work_of_a_perl_node_that_ends_is_stopped(link: tuple[gmp.Node, RealPerl]) -> None:
    node, perl = link
    thing = Jobs()
    port = gmp.expose(thing, node=node)
    perl.run(f'snd "{port.id}", call => "wait", [], port {{}}')
    thing.begun.wait()
    perl.close()
    eventually(lambda: thing.ended)


def test_a_perl_node_gets_its_key(link: tuple[gmp.Node, RealPerl]) -> None:
    node, perl = link
    for allowed, expected in ((["Perl*"], "key"), (["web-*"], "refused")):
        port = gmp.expose(Jobs(), node=node, allow_nodes=allowed)
        assert reply(perl, 'call => "add", [1, 2]', jobs=port.id)[:2] == ["refused", "key"]
        name = port.id.partition("#")[2]
        tag, *rest = reply(perl, f'"gmp.key" => "{name}"', jobs="gmp")
        assert tag == expected
        if tag == "key":
            assert reply(perl, f'call => "add", [1, 2], {{}}, {{ key => "{rest[0]}" }}', jobs=port.id) == ["return", 3]


def test_a_service_in_perl_is_called_by_a_gmp_node(link: tuple[gmp.Node, RealPerl]) -> None:
    node, perl = link
    (port,) = perl.run(
        'port { my ($tag, $method, $args, $keywords, $options, $reply) = @_;'
        ' snd $reply, $method eq "add" ? ("return", $args->[0] + $keywords->{b})'
        ' : ("raise", "PerlError", "no such thing", [$method], "at line 3", undef) }'
    )
    jobs = gmp.remote(port, node=node)
    assert jobs.add(1, b=2) == 3
    for _ in range(2):  # the short form, which needs only arguments, is for services of gmp nodes
        with pytest.raises(gmp.RemoteError, match="PerlError: no such thing"):
            jobs.anything()
