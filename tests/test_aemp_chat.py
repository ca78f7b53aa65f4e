"""The chat that is written as with Coro::MP, run as a user would."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from .addresses import free_address
from .test_examples import Program

Run = Callable[..., Program]


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("GMP_SECRET", "geheim")
    address, programs = free_address(), []

    def start(*arguments: str) -> Program:
        programs.append(Program("aemp_chat", "chat.py", *arguments, "--at", address))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


@pytest.mark.slow
def test_a_chat_in_the_manner_of_coro_mp(chat: Run) -> None:
    ada = chat("ada")  # before there is a room
    server = chat("serve", "--topic", "tea")
    ada.wait("* in the room about tea with ada")
    bob = chat("bob")
    bob.wait("* in the room about tea with ada, bob")
    ada.wait("<*> bob is here")
    other = chat("bob")
    other.wait("* there is a bob already")
    assert other.wait_end() == 0
    ada.type("hello")
    bob.wait("<ada> hello")
    server.wait("<ada> hello")
    ada.type("/who")
    ada.wait("* names ['ada', 'bob']")
    ada.type("/tell bob psst")
    bob.wait("<ada> (to you) psst")
    ada.wait("* whispered")
    ada.type("/tell eve psst")
    ada.wait("* refused there is no eve")
    bob.type("/nick bert")
    bob.wait("* renamed bert")
    ada.wait("<*> bob is bert now")
    bob.type("/later 0.2 later")
    ada.wait("<bert> later")
    assert "psst" not in server.text
    bob.kill()
    ada.wait("<*> bert left (transport_error)")
    server.kill()
    ada.wait("* the room is gone")
    again = chat("serve", "--topic", "coffee")
    ada.wait("* in the room about coffee with ada")
    ada.type("/quit")
    assert ada.wait_end() == 0
    again.wait("<*> ada left")
    again.kill(signal.SIGINT)
    again.wait("the journal is closed")
    assert again.wait_end() == 0
    for program in (ada, again, other):
        assert not program.errors, program.text
