"""The web chat: two gunicorns with two workers each, in real headless Chromium, and a worker that is killed.

Needs flask, gunicorn and selenium (extra ``test``), and Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import gmp

from .browser import Browser, needs_chromium
from .conftest import eventually
from .gunicorns import Gunicorns

pytest.importorskip("flask")
pytest.importorskip("gunicorn")
EXAMPLE = Path(__file__).parent.parent / "examples" / "web_chat"
Site = Callable[[], str]


@pytest.fixture
def seed(make_node: Callable[..., gmp.Node]) -> gmp.Node:
    return make_node("seed", secret="a secret of this test")


@pytest.fixture
def gunicorn(seed: gmp.Node, tmp_path: Path) -> Iterator[Site]:
    """Starts a gunicorn as on another host; returns its address once both its workers are in the group."""
    gunicorns = Gunicorns(EXAMPLE, tmp_path, GMP_SECRET="a secret of this test", GMP_SEEDS=seed.binds[0])

    def start() -> str:
        address = gunicorns.start()
        seed.group("chat").wait(2 * len(gunicorns), timeout=40)
        return f"http://{address}/"

    yield start
    gunicorns.close()


class Tab(Browser):
    """A tab with the chat."""

    def open(self, address: str) -> None:
        super().open(address)
        eventually(lambda: self.state().startswith("connected to"))

    def state(self) -> str:
        return str(self.script("return document.getElementById('state').textContent"))

    def lines(self) -> list[str]:
        return list(self.script("return [...document.querySelectorAll('#lines li')].map(e => e.childNodes[1].textContent)"))

    def say(self, who: str, text: str) -> None:
        self.script(
            f"who.value = {who!r}; document.getElementById('text').value = {text!r}; "
            "document.getElementById('form').requestSubmit()"
        )


@pytest.fixture
def browser() -> Iterator[Callable[[], Tab]]:
    opened: list[Tab] = []

    def make() -> Tab:
        opened.append(Tab())
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.mark.slow
@pytest.mark.timeout(240)
@needs_chromium
def test_two_browsers_at_two_gunicorns_hear_each_other_also_after_a_worker_was_killed(
    seed: gmp.Node, gunicorn: Site, browser: Callable[[], Tab]
) -> None:
    here, there = gunicorn(), gunicorn()
    ada, bob = browser(), browser()
    ada.open(here)
    bob.open(there)
    ada.say("Ada", "hello over there")
    eventually(lambda: bob.lines() == ["hello over there"] == ada.lines())
    bob.say("Bob", "<b>hello</b> back")
    eventually(lambda: ada.lines() == ["hello over there", "<b>hello</b> back"])

    worker = ada.state().removeprefix("connected to ")
    pid = int(seed.call(next(port for port in seed.group("chat").members() if gmp.node_of(port) == worker), "pid")[0])
    os.kill(pid, signal.SIGKILL)
    bob.say("Bob", "are you still there?")
    eventually(lambda: ada.lines()[-1:] == ["are you still there?"], timeout=60)
    assert ada.state().startswith("connected to")
    assert ada.state() != f"connected to {worker}"
    seed.group("chat").wait(4, timeout=40)  # gunicorn has started another one
    ada.say("Ada", "yes")
    eventually(lambda: bob.lines()[-1:] == ["yes"])
    assert ada.lines() == bob.lines()
