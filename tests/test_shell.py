"""`gmp shell` at a pseudo-terminal: with Python's own prompt, ptpython's and IPython's."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

import gmp
from gmp.cli.shell.names import open_string
from gmp.cli.shell.session import Session
from tests.conftest import eventually
from tests.perl_peer import PerlPeer
from tests.terminal import CTRL_C, CTRL_D, TAB, Terminal

MakeNode = Callable[..., gmp.Node]


def installed(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed: extra repl")


PROMPTS = [
    pytest.param(("python", ">>> "), id="python"),
    pytest.param(("ptpython", ">>>"), id="ptpython", marks=[installed("ptpython"), pytest.mark.slow]),
    pytest.param(("ipython", "]: "), id="ipython", marks=[installed("IPython"), pytest.mark.slow]),
]


@pytest.fixture
def outside(make_node: MakeNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> gmp.Node:
    """A seed of another process than the shell's, which allows eval."""
    monkeypatch.setenv("GMP_SECRET", "geheim")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("HOME", str(tmp_path))
    node = make_node("outside/1", allow_eval=True)
    monkeypatch.setenv("GMP_SEEDS", node.binds[0])
    return node


@pytest.fixture
def shell(outside: gmp.Node, request: pytest.FixtureRequest) -> Iterator[tuple[Terminal, str]]:
    """A shell that has come to its prompt, and what that prompt ends with."""
    kind, prompt = request.param
    with start("--with", kind, "--node-id", "inside") as terminal:
        terminal.wait("connected with outside/1")
        terminal.wait("comes back")
        terminal.wait(prompt)
        yield terminal, prompt
        assert "Traceback" not in terminal.shown


def start(*arguments: str) -> Terminal:
    return Terminal(sys.executable, "-m", "gmp.cli.main", "shell", *arguments, columns=200)


def me(outside: gmp.Node, terminal: Terminal) -> str:
    """Let the shell's port `me` be found."""
    terminal.line("gmp.group('prompt').join(me); print('joi' + 'ned')")
    terminal.wait("joined")
    [port] = outside.group("prompt").wait(timeout=30)
    return port


def finish(terminal: Terminal) -> None:
    """Leave by Ctrl-D; pressed between two prompts it is lost, so it is pressed again."""
    ended = gevent.spawn(terminal.wait_end)
    while not ended.ready():
        terminal.type(CTRL_D)
        ended.join(timeout=0.5)
    assert ended.get() == 0
    assert terminal.processes() == []


@pytest.mark.parametrize("shell", PROMPTS, indirect=True)
def test_messages_are_shown_above_the_prompt_while_one_types(outside: gmp.Node, shell: tuple[Terminal, str]) -> None:
    terminal, _ = shell
    port = me(outside, terminal)
    outside.send(port, "hello", 1)
    terminal.wait("me: ('hello', 1)")
    terminal.line("me.on('ping', lambda n, r: send(r, 'pong', n)); print('go' + 'es')")
    terminal.wait("goes")
    terminal.type("print('half' + ")
    terminal.wait("+")
    for number in range(3):
        outside.send(port, "typing", number)
        terminal.wait(f"('typing', {number})")
        assert outside.call(port, "ping", number, timeout=20) == ("pong", number)
    terminal.line("'way')")
    terminal.wait("halfway")
    terminal.line("len(received)")
    terminal.wait("4")
    finish(terminal)


@pytest.mark.slow
@pytest.mark.parametrize("shell", PROMPTS, indirect=True)
def test_nodes_groups_and_ports_are_completed_in_strings(
    outside: gmp.Node, shell: tuple[Terminal, str], make_node: MakeNode
) -> None:
    terminal, _ = shell
    worker = outside.port()
    outside.group("workers").join(worker)
    gevent.sleep(3)  # longer than the shell takes to look again
    for typed, rest, result in (
        ("'is ' + gmp.node_of('outs", "')", "is outside/1"),
        ("'is ' + gmp.group('work", "').name", "is workers"),
        (f"'is ' + gmp.node_of('{worker.id[:-3]}", "') + '!'", "is outside/1!"),
    ):
        terminal.type(typed)
        terminal.wait(typed[-8:])
        gevent.sleep(0.7)  # ptpython opens its menu by itself, and Tab takes the first; without it Tab would open it
        terminal.type(TAB)
        gevent.sleep(0.7)
        # readline closes the quotes itself when the word that it knows begins there
        closed = "Python's prompt" in terminal.shown and "#" not in typed
        terminal.line(rest.removeprefix("'") if closed else rest)
        terminal.wait(result)
        gevent.sleep(0.5)
    finish(terminal)


@pytest.mark.slow
@pytest.mark.parametrize("shell", PROMPTS, indirect=True)
def test_another_node_evaluates_when_it_allows_that(
    outside: gmp.Node, shell: tuple[Terminal, str], make_node: MakeNode
) -> None:
    terminal, prompt = shell
    make_node("refuses", seeds=outside.binds)
    eventually(lambda: "refuses" in outside.known_nodes())
    terminal.line("=refuses")
    terminal.wait("refuses does not allow it")
    gevent.sleep(0.3)
    terminal.line("=outside/1")
    gevent.sleep(0.5)
    for line, result in (
        ("node.id + '!'", "'outside/1!'"),
        ("x = 6", "outside/1 "),
        ("x * 7", "42"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("=inside", prompt),
        ("node.id + '?'", "inside?"),
        ("=outside/1 node.id.upper()", "'OUTSIDE/1'"),
        ("=", "outside/1  connected"),
    ):
        terminal.line(line)
        terminal.wait(result)
        gevent.sleep(0.3)
    finish(terminal)


@pytest.mark.slow
def test_a_block_of_lines_is_evaluated_on_the_other_node(outside: gmp.Node) -> None:
    with start("--with", "python", "outside/1") as terminal:
        terminal.wait("outside/1 >>> ")
        for line in ("def double(n):", "    return 2 * n", "", "double(21)"):
            terminal.line(line)
        terminal.wait("42")
        assert not hasattr(sys.modules["__main__"], "double")
        finish(terminal)


@pytest.mark.parametrize("shell", PROMPTS, indirect=True)
def test_ctrl_c_at_the_prompt_leaves_the_shell_alive(outside: gmp.Node, shell: tuple[Terminal, str]) -> None:
    terminal, _ = shell
    port = me(outside, terminal)
    terminal.type("1 / 0 #")
    terminal.wait("1 / 0 #")
    terminal.type(CTRL_C)
    gevent.sleep(0.5)
    outside.send(port, "still", "there")
    terminal.wait("('still', 'there')")
    terminal.line("'and ' + 'works'")
    terminal.wait("and works")
    assert "ZeroDivision" not in terminal.shown
    finish(terminal)


@pytest.mark.parametrize("kind", [pytest.param(param.values[0], id=param.id, marks=param.marks) for param in PROMPTS])
def test_ctrl_c_ends_a_body_that_computes_for_ever_and_the_shell_answers(
    outside: gmp.Node, kind: tuple[str, str]
) -> None:
    with start("--with", kind[0], "--node-id", "inside") as terminal:
        terminal.wait("comes back")
        terminal.wait(kind[1])
        terminal.line("import os; spin = gmp.port(lambda port: [os.write(2, b'spin' + b'ning'), *iter(lambda: 1, 2)])")
        terminal.wait("spinning")
        terminal.type(CTRL_C)
        terminal.wait("failed with KeyboardInterrupt")
        terminal.wait(kind[1])
        gevent.sleep(0.5)  # ptpython takes no keys until it has drawn its prompt anew
        terminal.line("print(6 * 7, spin.alive)")
        terminal.wait("42 False")
        finish(terminal)


@pytest.mark.parametrize("kind", [pytest.param(param.values[0][0], id=param.id, marks=param.marks) for param in PROMPTS])
def test_sigterm_ends_it_without_a_word(outside: gmp.Node, kind: str) -> None:
    with start("--with", kind) as terminal:
        terminal.wait("comes back")
        terminal.wait(">>>" if kind != "ipython" else "]: ")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait_end() == -signal.SIGTERM
        assert "Traceback" not in terminal.shown
        assert "Exception" not in terminal.shown
        assert terminal.processes() == []


@pytest.mark.slow
def test_ctrl_c_while_it_starts_leaves_nothing(outside: gmp.Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMP_SEEDS", "127.0.0.1:1")  # nobody listens there, so it waits for the prompt
    for pause in (0.1, 0.3, 0.6, 1.0, 2.0):
        with start("--with", "python", "-t", "60") as terminal:
            gevent.sleep(pause)
            terminal.interrupt()
            code = terminal.wait_end()
            assert code in (130, -signal.SIGINT, 1)
            assert terminal.processes() == []
            if "import" not in terminal.shown:  # before the command itself runs, the traceback is Python's own
                assert "Traceback" not in terminal.shown


@pytest.mark.slow
def test_a_node_that_cannot_be_reached_or_does_not_allow_it_ends_it(outside: gmp.Node, make_node: MakeNode) -> None:
    make_node("refuses", seeds=outside.binds)
    for node_id, text in (("refuses", "does not allow it"), ("nowhere", "nothing can be evaluated on nowhere")):
        with start("-t", "2", node_id) as terminal:
            assert terminal.wait_end() == 3
            assert text in terminal.shown.replace("\r\n", " ")
            assert "Traceback" not in terminal.shown


@pytest.mark.slow
def test_without_a_seed_that_is_up_it_goes_on_and_says_so(outside: gmp.Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMP_SEEDS", "127.0.0.1:1")
    with start("--with", "python", "-t", "1") as terminal:
        terminal.wait("not connected yet")
        terminal.wait("no other node yet")
        terminal.wait(">>> ")
        finish(terminal)


@pytest.mark.slow
def test_without_any_seed_it_is_alone_and_can_be_joined(
    outside: gmp.Node, monkeypatch: pytest.MonkeyPatch, make_node: MakeNode
) -> None:
    monkeypatch.delenv("GMP_SEEDS")
    with start("--with", "python", "-b", "127.0.0.1:0") as terminal:
        terminal.wait("no other node yet")
        terminal.wait(">>> ")
        terminal.line("'bind ' + node.binds[0] + ' bind'")
        terminal.wait("'bind ")
        terminal.wait("'bind ")
        bind = terminal.wait(" bind'")
        make_node("guest", seeds=[bind]).wait_up(timeout=20)
        finish(terminal)


@pytest.mark.slow
def test_lines_from_a_pipe_are_run(outside: gmp.Node) -> None:
    from gevent import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "gmp.cli.main", "shell"],
        input=b"print(node.call('outside/1', 'time')[0] > 1e9)\n=outside/1 node.id\n",
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0
    assert b"True" in done.stdout
    assert b"'outside/1'" in done.stdout
    assert b"Traceback" not in done.stderr


# ---- parts


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("send('cli/ho", "cli/ho"),
        ('send("', ""),
        ("send('x', ", None),
        ("send('it\\'s", "it\\'s"),
        ("""print("it's", 'a""", "a"),
        ("# don't", None),
        ("", None),
        ("'#' + 'b", "b"),
    ],
)
def test_a_string_that_is_not_closed_is_found(text: str, typed: str | None) -> None:
    assert open_string(text) == typed


def test_a_perl_node_gets_the_source_as_it_is_typed(make_node: MakeNode) -> None:
    node = make_node("alone")
    session = Session(node, timeout=20)
    with PerlPeer.dial(node.binds[0], "perl") as peer:
        answer = gevent.spawn(session.evaluate, "perl", "1 + 1")
        source, _ = peer.expect("", "eval")
        assert source == "1 + 1"
        assert answer.get(timeout=20) == "perl: remote execution not allowed"
