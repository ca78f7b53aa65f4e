"""Functions that other nodes may call here when `allow` admits this module; `calls` keeps what `note` was called with."""

from __future__ import annotations

from os.path import join as imported_function  # noqa: F401  # found in this module, but not of it
from typing import Any

import gmp

from .conftest import Recorder

calls = Recorder()


def note(*args: Any) -> None:
    calls(*args)


def fail(*_: Any) -> None:
    raise ValueError("as asked")


def leave(*_: Any) -> None:
    raise SystemExit(3)


@gmp.spawnable
def report(port: gmp.Port, *args: Any) -> None:
    """Tell of the start, then of each message."""
    calls(port, *args)
    for message in port:
        calls(*message)


@gmp.spawnable
def answer(port: gmp.Port) -> None:
    """Handlers, set one after the other, that answer with what they got."""
    port.on("ping", lambda reply, number: port.node.send(reply, "ping", number))
    port.on("pong", lambda reply, number: port.node.send(reply, "pong", number))


@gmp.spawnable
def fail_at_once(port: gmp.Port, text: str) -> None:
    raise ValueError(text)


class Holder:
    def method(self) -> None:
        raise AssertionError("this must never run")


not_a_function = Holder()
