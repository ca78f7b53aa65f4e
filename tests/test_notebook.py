"""Notebooks: real kernels with nodes in them, which live on while no cell runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import gevent
import gevent.subprocess as subprocess
import psutil
import pytest

import gmp

from .conftest import Recorder, eventually
from .notebook_program import Kernel, kernels

MakeNode = Callable[..., gmp.Node]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(find_spec("ipykernel") is None, reason="ipykernel is not installed: pip install '.[test]'"),
]

JOIN = """
import asyncio, time
import gevent
import gmp
import gmp.repl

node = gmp.configure(node_id={name!r}, binds=["127.0.0.1:0"], seeds=[{seed!r}], secret="geheim")
node.wait_up(timeout=60)
box = gmp.port()
seen = []

@box.on("say")
def say(text, reply=None):
    seen.append(text)
    print("somebody says", text)
    if reply is not None:
        gmp.send(reply, "heard", text)

print(box.id)
"""


def join(kernel: Kernel, seed: gmp.Node, name: str = "notebook") -> str:
    """Let a kernel's node join the seed's network, and return the ID of its port."""
    box = kernel.run(JOIN.format(name=name, seed=seed.binds[0])).splitlines()[-1]
    assert gmp.node_of(box) == name
    return box


@pytest.fixture
def seed(make_node: MakeNode) -> gmp.Node:
    return make_node("seed")


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with kernels() as (made,):
        yield made


def test_a_node_lives_on_while_no_cell_runs(seed: gmp.Node, kernel: Kernel) -> None:
    """For longer than a silent node is thought to be there."""
    box = join(kernel, seed)
    events, busy = Recorder(), Recorder()
    seed.monitor_nodes(events)
    seed.monitor_busy(busy)
    gevent.sleep(seed.settings.lost_after + 5)
    assert seed.call(box, "say", "hello") == ("heard", "hello")
    kernel.see("somebody says hello")
    assert not events.calls
    assert not busy.calls


def test_messages_are_shown_as_they_come_and_answered(seed: gmp.Node, kernel: Kernel) -> None:
    box = join(kernel, seed)
    for number in range(20):
        assert seed.call(box, "say", f"number {number}") == ("heard", f"number {number}")
        kernel.see(f"somebody says number {number}\n")
    kernel.run("gmp.after(0.3, print, 'a timer, too')")
    kernel.see("a timer, too")
    seed.monitor("notebook", died := Recorder())
    kernel.run("gmp.after(0, node.close)")  # what a cell leaves to be done
    assert died.wait()[0] == ("leaving", "notebook")


def test_what_a_cell_sends_leaves_without_another_cell(seed: gmp.Node, kernel: Kernel) -> None:
    join(kernel, seed)
    port = seed.port()
    kernel.run(f"for number in range(1000): gmp.send({port.id!r}, number)")
    assert [port.receive(timeout=30) for _ in range(1000)] == [(number,) for number in range(1000)]
    task = f"async def later():\n    await asyncio.sleep(0.2)\n    gmp.send({port.id!r}, 'later')\n"
    kernel.run(f"{task}_ = asyncio.create_task(later())")
    assert port.receive(timeout=30) == ("later",)


def test_a_call_in_a_cell_is_answered(seed: gmp.Node, kernel: Kernel) -> None:
    box = join(kernel, seed)
    echo = seed.port(lambda port: [seed.send(reply, word * 2) for word, reply in port])
    assert kernel.run(f"print(gmp.call({echo.id!r}, 'ab'))") == "('abab',)"
    assert kernel.run(f"print(gmp.call({box!r}, 'say', 'to myself'))").endswith("('heard', 'to myself')")
    echo.kill("broken")
    kernel.begin(f"gmp.call({echo.id!r}, 'ab')")
    assert kernel.end() == "PortDied"


@pytest.mark.parametrize("wait", ["gmp.port().receive()", "gevent.sleep(600)", "gmp.call(gmp.port(), 'x', timeout=None)"])
def test_an_interrupt_ends_a_wait_and_hurts_nothing(seed: gmp.Node, kernel: Kernel, wait: str) -> None:
    box = join(kernel, seed)
    events = Recorder()
    seed.monitor_nodes(events)
    for _ in range(3):
        kernel.shown = ""  # the traceback of an interrupt shows the cell too
        kernel.begin(f"print('it waits', flush=True)\n{wait}")
        kernel.see("it waits")
        kernel.interrupt()
        assert kernel.end() == "KeyboardInterrupt"
        assert seed.call(box, "say", "still there") == ("heard", "still there")
    assert not events.calls


def test_an_interrupt_between_cells_does_nothing(seed: gmp.Node, kernel: Kernel) -> None:
    box = join(kernel, seed)
    for number in range(20):
        kernel.interrupt()
        assert seed.call(box, "say", number) == ("heard", number)
    assert kernel.run("print(len(seen), box.alive)").endswith("20 True")


def test_an_interrupt_ends_a_handler_that_computes_between_cells(seed: gmp.Node, kernel: Kernel) -> None:
    box = join(kernel, seed)
    kernel.run("@box.on('compute')\ndef compute():\n    print('it computes', flush=True)\n    while True: pass")
    seed.monitor(box, died := Recorder())
    seed.send(box, "compute")
    kernel.see("it computes")
    while not died.calls:  # one that comes at once is not heeded
        kernel.interrupt()
        gevent.sleep(0.1)
    assert "KeyboardInterrupt" in str(died.calls[0])
    assert "False True True" in kernel.run("print(box.alive, node.started, gmp.port().alive)")


def test_greenlets_run_while_a_cell_awaits(seed: gmp.Node, kernel: Kernel) -> None:
    box = join(kernel, seed)
    kernel.begin("print('it awaits')\nwhile not seen:\n    await asyncio.sleep(0.01)\nprint('awaited', seen)")
    kernel.see("it awaits")
    assert seed.call(box, "say", "go on") == ("heard", "go on")
    assert not kernel.end()
    kernel.see("awaited ['go on']")
    kernel.begin("print('for long')\nawait asyncio.sleep(600)")
    kernel.see("for long")
    kernel.interrupt()
    assert kernel.end() == "CancelledError"
    assert seed.call(box, "say", "still there") == ("heard", "still there")


def test_greenlets_and_asyncio_let_each_other_run(seed: gmp.Node, kernel: Kernel) -> None:
    """Although greenlets always have something to do, and a task too."""
    box = join(kernel, seed)
    kernel.run(
        "turns = [0, 0]\n"
        "def greenlet(port):\n    while True:\n        turns[0] += 1\n        gevent.sleep(0)\n"
        "async def task():\n    while True:\n        turns[1] += 1\n        await asyncio.sleep(0)\n"
        "runner, running = gmp.port(greenlet), asyncio.create_task(task())"
    )
    for _ in range(5):
        assert seed.call(box, "say", "hello") == ("heard", "hello")
    first = eval(kernel.run("print(turns)").splitlines()[-1])
    assert seed.call(box, "say", "hello") == ("heard", "hello")
    second = eval(kernel.run("print(turns)").splitlines()[-1])
    assert second[0] > first[0] > 0
    assert second[1] > first[1] > 0


def test_timers_go_on_at_their_own_pace(kernel: Kernel) -> None:
    """Naps are short while greenlets have something to do: a timer every 2 ms is not one every `LONGEST`."""
    kernel.run(
        "import gevent, time, gmp, gmp.repl\nfrom gmp.repl import notebook\n"
        "def ticks(port):\n"
        "    began = time.monotonic()\n"
        "    for _ in range(400): gevent.sleep(0.002)\n"
        "    print('took', time.monotonic() - began < 400 * notebook.LONGEST / 2)\n"
        "_ = gmp.port(ticks)"
    )
    kernel.see("took True")


def test_an_idle_kernel_does_not_wait_busily(seed: gmp.Node, kernel: Kernel) -> None:
    join(kernel, seed)
    process, seconds = psutil.Process(kernel.pid), 10
    gevent.sleep(1)
    before = process.cpu_times()
    gevent.sleep(seconds)
    after = process.cpu_times()
    share = (after.user + after.system - before.user - before.system) / seconds
    print(f"an idle kernel with a node takes {share:.1%} of a processor")
    assert share < 0.1


def test_autoreload_changes_the_functions_of_handlers(seed: gmp.Node, kernel: Kernel, tmp_path: Path) -> None:
    file = tmp_path / "answers_of_a_test.py"
    file.write_text("import gmp\n\ndef answer(reply):\n    gmp.send(reply, 'the first')\n")
    box = join(kernel, seed)
    kernel.run(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n%load_ext autoreload\n%autoreload 2")
    kernel.run("import answers_of_a_test\nbox.on('ask', answers_of_a_test.answer)")
    assert seed.call(box, "ask") == ("the first",)
    file.write_text("import gmp\n\ndef answer(reply):\n    gmp.send(reply, 'quite another')\n")
    kernel.run("pass")
    assert seed.call(box, "ask") == ("quite another",)
    assert seed.call(box, "say", "still there") == ("heard", "still there")


def test_a_restarted_kernel_leaves_and_joins_again(seed: gmp.Node, kernel: Kernel) -> None:
    for _ in range(2):
        box = join(kernel, seed)
        seed.monitor(box, died := Recorder())
        assert seed.call(box, "say", "hello") == ("heard", "hello")
        kernel.restart()
        assert died.wait(timeout=30)[0] == ("leaving", "notebook")
    box = join(kernel, seed)
    assert seed.call(box, "say", "once more") == ("heard", "once more")


def test_two_notebooks_talk_while_no_cell_of_theirs_runs(seed: gmp.Node) -> None:
    with kernels(2) as (one, two):
        box, other = join(one, seed, "one"), join(two, seed, "two")
        port = seed.port()
        handler = (
            "@box.on('ball')\n"
            "def ball(number):\n"
            "    print('ball', number)\n"
            "    gmp.send({goal!r}, number) if number > 200 else gmp.send({other!r}, 'ball', number + 1)"
        )
        one.run(handler.format(goal=port.id, other=other))
        two.run(handler.format(goal=port.id, other=box))
        seed.send(box, "ball", 0)
        assert port.receive(timeout=60) == (201,)
        one.see("ball 200")
        two.see("ball 201")


def test_a_startup_file_is_enough(seed: gmp.Node) -> None:
    with kernels(startup="import gmp.repl\n") as (kernel,):
        code = JOIN.replace("import gmp.repl\n", "").format(name="notebook", seed=seed.binds[0])
        box = kernel.run(code).splitlines()[-1]
        assert seed.call(box, "say", "hello") == ("heard", "hello")
        kernel.run("import gmp.repl\ndef end():\n    gmp.repl.uninstall()\n    gmp.repl.uninstall()\n    print('the end')")
        kernel.run("timer = gmp.after(0.2, end)")  # in a turn, which is over when another cell has run
        kernel.see("the end")
        kernel.run("pass")
        with pytest.raises(gmp.CallTimeout):
            seed.call(box, "say", "nobody hears it", timeout=1)
        kernel.run("gmp.repl.install(); gmp.repl.install()")
        kernel.see("nobody hears it")
        assert seed.call(box, "say", "again") == ("heard", "again")


def test_gevents_loop_on_libuv_is_refused() -> None:
    with kernels(startup="import os; os.environ['GEVENT_LOOP'] = 'libuv'\n") as (kernel,):
        kernel.begin("import gmp.repl")
        assert kernel.end() == "GmpError"
        kernel.see("leave GEVENT_LOOP unset")


EXECUTE = """
import json, sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=90, resources={"metadata": {"path": sys.argv[2]}}).execute()
print(json.dumps([cell.outputs for cell in notebook.cells if cell.cell_type == "code"]))
"""


def test_the_example_can_be_executed() -> None:
    folder = Path(__file__).parent.parent / "examples" / "notebook"
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, folder / "network.ipynb", folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert done.returncode == 0, done.stderr.decode()
    binds, shown, stations, answers, awaited, _, left, _ = json.loads(done.stdout)
    results = [eval(output["data"]["text/plain"]) for (output,) in (binds, shown, stations, answers, awaited)]
    assert results[0][0].startswith("127.0.0.1:")
    assert all(result.keys() == {"oslo", "rome"} for result in results[2:])
    # what handlers have shown, as far as it came while a cell ran: nbclient drops what comes in between
    assert results[1]
    assert results[1].keys() <= {"oslo", "rome"}
    assert left[-1]["data"]["text/plain"] == "['oslo']"
    eventually(lambda: not any(each.info["cwd"] == str(folder) for each in psutil.process_iter(["cwd"])))
