"""No change makes the path of a message 10 % heavier without anybody noticing. Counted, not timed: see `tests.hot_path`."""

from __future__ import annotations

import json

import pytest

from tests.hot_path import BUDGETS, COUNT, VERSION, Counter, Rig, blocks, bytecodes

BUDGET = json.loads(BUDGETS.read_text()).get(VERSION)
ALLOWED = 1.10
HINT = "worth it? then record new budgets, on each version of Python: python -m tests.hot_path --record"

needs_budget = pytest.mark.skipif(BUDGET is None, reason=f"no budgets are recorded for Python {VERSION}")


def over_budget(counts: dict[str, float], budget: dict[str, float]) -> dict[str, str]:
    assert counts.keys() == budget.keys()
    return {
        name: f"{count} instead of {budget[name]}" for name, count in counts.items() if count > budget[name] * ALLOWED
    }


@pytest.fixture
def rig():
    made = Rig()
    yield made
    made.close()


@needs_budget
def test_a_message_does_not_take_a_tenth_more_bytecodes_than_was_recorded(rig: Rig) -> None:
    assert not over_budget(bytecodes(rig), BUDGET["bytecodes"]), HINT


@needs_budget
def test_a_waiting_message_does_not_keep_a_tenth_more_blocks_of_memory_than_was_recorded(rig: Rig) -> None:
    assert not over_budget(blocks(rig), BUDGET["blocks"]), HINT


def test_the_counter_sees_what_gmp_executes_in_other_greenlets_and_nothing_else(rig: Rig) -> None:
    receiver = rig.counting_body(rig.near)
    counter = Counter()
    with counter.counting():
        sum(range(10_000))
        [value * 2 for value in range(10_000)]
    assert counter.executed == 0
    for value in range(COUNT):
        rig.near.send(receiver, "tag", value)
    with counter.counting():
        rig.done.wait(20)
    assert counter.executed > 10 * COUNT
