"""What a body or handler keeps in greenlet-locals is seen by no other one, as what it sets in its context is."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from typing import Any

import gevent
import gevent.local
import pytest

import gmp

PATCHED = """
from gevent import monkey
monkey.patch_all()
import threading
import gmp

local = threading.local()
first, second = gmp.port(), gmp.port()

@first.on("login")
def login(user, reply):
    local.user = user
    gmp.send(reply, "ok")

second.on("who", lambda reply: gmp.send(reply, getattr(local, "user", None)))
gmp.call(first, "login", "alice")
print("seen", gmp.call(second, "who"))
"""


class Session:
    pass


class Mine(gevent.local.local):
    def __init__(self) -> None:
        self.made = []


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("how", ["handler", "body", "spawn", "after", "same port"])
def test_greenlet_locals_are_fresh_for_each_body_handler_and_callback(how: str, blocks: bool) -> None:
    local = gevent.local.local()
    results = gmp.port()

    def look(*_: Any) -> None:
        gmp.send(results, getattr(local, "user", None))
        local.user = "alice"
        if blocks:
            gevent.sleep(0)

    port = gmp.port()
    port.on("look", look)
    for _ in range(20):
        if how == "handler":
            each = gmp.port()
            each.on("look", look)
            gmp.send(each, "look")
        elif how == "same port":
            gmp.send(port, "look")
        elif how == "body":
            gmp.port(look)
        elif how == "spawn":
            port.spawn(look)
        else:
            gmp.after(0, look)
    assert [results.receive(timeout=20) for _ in range(20)] == [(None,)] * 20


def test_a_local_with_attributes_of_its_own_is_made_anew_for_each() -> None:
    local = Mine()
    port, results = gmp.port(), gmp.port()

    @port.on("add")
    def add(number: int) -> None:
        local.made.append(number)
        gmp.send(results, *local.made)

    for number in range(5):
        gmp.send(port, "add", number)
    assert [results.receive(timeout=20) for _ in range(5)] == [(number,) for number in range(5)]


def test_what_a_handler_kept_in_a_local_goes_with_it() -> None:
    local = gevent.local.local()
    kept = []

    def keep() -> None:
        local.session = session = Session()
        kept.append(weakref.ref(session))
        del session
        gmp.current_port().kill()

    port = gmp.port()
    port.on("keep", keep)
    gmp.send(port, "keep")
    assert port.join(20)
    gevent.sleep(0)
    gc.collect()
    assert kept[0]() is None


def test_a_worker_without_locals_is_used_again() -> None:
    port, results = gmp.port(), gmp.port()
    port.on("who", lambda: gmp.send(results, gevent.getcurrent()))
    workers = []
    for _ in range(5):
        gmp.send(port, "who")
        workers.append(results.receive(timeout=20)[0])
    assert len(set(map(id, workers))) == 1


def test_thread_locals_of_a_patched_program_are_fresh_too() -> None:
    ran = subprocess.run([sys.executable, "-c", PATCHED], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "seen (None,)\n", ran.stderr
