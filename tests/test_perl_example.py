"""Perl programs and gmp ones in one network, run as a user would: the example, and the page that goes through a mixed
network step by step. They run where AnyEvent::MP is found, see `tests.real_perl`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .addresses import free_address, free_addresses
from .real_perl import missing
from .test_examples import Program
from .tutorial import follow

Run = Callable[..., Program]
PAGE = Path(__file__).parent.parent / "docs" / "coming_from" / "anyevent_mp.md"


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> None:
    if missing():
        pytest.skip(f"no nodes of AnyEvent::MP here: {missing()}")
    monkeypatch.setenv("PERL5LIB", os.environ["GMP_PERL_LIB"])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("GMP_SECRET", "geheim")
    programs = []

    def start(*arguments: str) -> Program:
        interpreter = {"interpreter": ["perl"]} if arguments[0].endswith(".pl") else {}
        programs.append(Program("perl", *arguments, **interpreter))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


@pytest.mark.slow
def test_stations_of_perl_and_a_panel_of_gmp_survive_each_others_death(run: Run) -> None:
    address = free_address()
    panel = run("panel.py", "--bind", address, "--limit", "16")
    panel.wait("the panel waits for stations")
    oslo = run("station.pl", "oslo", address)
    rome = run("station.pl", "rome", address)
    for place in ("oslo", "rome"):
        panel.wait(f"{place} is there")
        panel.wait(f"{place}: it is warmer than 16 degrees!")
        panel.wait(f"the alarm of {place} has ended (in order)")
    asking = run("panel.py", "--bind", address, "--ask", "oslo")
    asking.wait("oslo: degrees 1")
    assert asking.wait_end() == 0
    oslo.kill()
    panel.wait("oslo is gone (transport_error)")
    oslo = run("station.pl", "oslo", address)
    oslo.wait("oslo is watched")
    panel.kill()
    for station in (oslo, rome):
        station.wait("a panel is gone (transport_error)")
    again = run("panel.py", "--bind", address, "--limit", "1000")
    for place in ("oslo", "rome"):
        again.wait(f"{place} is there")
        again.wait(f"{place}: 1")
    again.kill(signal.SIGINT)
    assert again.wait_end() == 0
    for program in (panel, again, asking):
        assert not program.errors, program.text


@pytest.mark.slow
def test_the_mixed_network_can_be_followed_step_by_step(tmp_path: Path) -> None:
    page = PAGE.read_text().partition("## A mixed network, step by step")[2]
    for told, free in zip(("127.0.0.1:4040", "127.0.0.1:4050"), free_addresses(2), strict=True):
        page = page.replace(told, free)
    assert follow(page, tmp_path)[-1] == "tls.pl"
