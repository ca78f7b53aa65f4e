"""Prompts that stay alive, at a pseudo-terminal as a user has them: another process' messages are answered while the prompt
idles and while one types."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gevent
import pytest

import gmp
from gmp.repl.inputhook import InputHook
from tests.terminal import CTRL_C, CTRL_D, Terminal

MakeNode = Callable[..., gmp.Node]
IPYTHON = shutil.which("ipython", path=str(Path(sys.executable).parent)) or ""
needs_ipython = pytest.mark.skipif(not IPYTHON, reason="IPython is not installed beside this Python: pip install '.[test]'")
newer = pytest.mark.skipif(sys.version_info < (3, 13), reason="Python has two prompts from 3.13 on")


@dataclass
class Prompt:
    """A program with a prompt."""

    command: list[str]
    prompt: str = ">>> "
    environment: tuple[tuple[str, str], ...] = ()


PROMPTS = {
    "python": Prompt([sys.executable, "-q"]),
    "python's older prompt": Prompt([sys.executable, "-q"], environment=(("PYTHON_BASIC_REPL", "1"),)),
    "patched python": Prompt([sys.executable, "-q", "-i", "-c", "from gevent import monkey; monkey.patch_all()"]),
    "ipython": Prompt([IPYTHON, "--no-banner"], "]: "),
    "ipython's simple prompt": Prompt([IPYTHON, "--no-banner", "--simple-prompt"], "]: "),
    "patched ipython": Prompt([sys.executable, "-m", "gevent.monkey", IPYTHON, "--no-banner"], "]: "),
}


@pytest.fixture
def outside(make_node: MakeNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> gmp.Node:
    """A node of another process than the prompt's: this one."""
    monkeypatch.setenv("GMP_SECRET", "geheim")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    node = make_node("outside")
    monkeypatch.setenv("GMP_SEEDS", node.binds[0])
    return node


def start(kind: str) -> tuple[Terminal, str]:
    prompt = PROMPTS[kind]
    return Terminal(*prompt.command, **dict(prompt.environment)), prompt.prompt


def configure(terminal: Terminal, prompt: str, outside: gmp.Node, first: str = "import gmp, gmp.repl") -> str:
    """Type what makes a node with a port that answers, and return the port."""
    terminal.wait(prompt)
    for line in (
        first,
        "node = gmp.configure(node_id='inside', binds=['127.0.0.1:0'])",
        "port = gmp.port(); port.on('ping', lambda n, r: gmp.send(r, 'pong', n))",
        "gmp.group('prompt').join(port)",
    ):
        terminal.line(line)
        terminal.wait(prompt)
    [port] = outside.group("prompt").wait(timeout=30)
    return port


def answers(outside: gmp.Node, port: str, count: int = 3) -> None:
    for number in range(count):
        assert outside.call(port, "ping", number, timeout=20) == ("pong", number)


@pytest.mark.parametrize(
    "kind",
    [
        "python",
        pytest.param("python's older prompt", marks=newer),
        pytest.param("patched python", marks=pytest.mark.slow),
        pytest.param("ipython", marks=needs_ipython),
        pytest.param("ipython's simple prompt", marks=[needs_ipython, pytest.mark.slow]),
        pytest.param("patched ipython", marks=[needs_ipython, pytest.mark.slow]),
    ],
)
def test_messages_are_answered_while_the_prompt_idles_and_while_one_types(outside: gmp.Node, kind: str) -> None:
    terminal, prompt = start(kind)
    with terminal:
        port = configure(terminal, prompt, outside)
        answers(outside, port)
        terminal.type("print(0")
        for number in range(1, 6):
            terminal.type(f" + {number}")
            answers(outside, port, 1)
        terminal.line(", 'is the sum')")
        terminal.wait("15 is the sum")
        terminal.line("node.close(); exit()")
        assert terminal.wait_end() == 0
        assert "Traceback" not in terminal.shown


def after_ctrl_c(kind: str) -> int:
    """How a program ends at whose prompt Ctrl-C was pressed: without gmp, too, from Python 3.14 on by SIGINT in one."""
    return -signal.SIGINT if kind == "python's older prompt" and sys.version_info >= (3, 14) else 0


@pytest.mark.parametrize("kind", ["python", pytest.param("python's older prompt", marks=newer)])
def test_ctrl_c_at_the_prompt_clears_the_line_and_the_node_lives_on(outside: gmp.Node, kind: str) -> None:
    terminal, prompt = start(kind)
    with terminal:
        port = configure(terminal, prompt, outside)
        for _ in range(3):
            terminal.type("1 / 0 #")
            terminal.wait("1 / 0 #")
            answers(outside, port, 1)
            terminal.type(CTRL_C)
            terminal.wait("KeyboardInterrupt")
            terminal.wait(prompt)
        answers(outside, port, 1)
        terminal.line("import time; time.sleep(60)")
        gevent.sleep(0.3)
        terminal.type(CTRL_C)
        terminal.wait("KeyboardInterrupt")
        terminal.wait(prompt)
        answers(outside, port, 1)
        terminal.line("node.close()")
        terminal.wait(prompt)
        terminal.type(CTRL_D)
        assert terminal.wait_end() == after_ctrl_c(kind)
        assert "ZeroDivision" not in terminal.shown
        assert "ignored" not in terminal.shown


@pytest.mark.parametrize(
    "kind",
    [
        "python",
        pytest.param("python's older prompt", marks=newer),
        pytest.param("ipython", marks=needs_ipython),
        pytest.param("patched python", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_ends_a_body_that_computes_for_ever_and_the_prompt_answers(outside: gmp.Node, kind: str) -> None:
    terminal, prompt = start(kind)
    with terminal:
        port = configure(terminal, prompt, outside)
        for number in range(2):
            terminal.line("import os; spin = gmp.port(lambda port: [os.write(2, b'spin' + b'ning'), *iter(lambda: 1, 2)])")
            terminal.wait("spinning")
            terminal.type(CTRL_C)
            terminal.wait("failed with KeyboardInterrupt")
            terminal.wait(prompt)
            terminal.line(f"print(6 * 7 + {number}, spin.alive)")
            terminal.wait(f"{42 + number} False")
            answers(outside, port, 1)
        terminal.line("node.close(); exit()")
        assert terminal.wait_end() == after_ctrl_c(kind)


def test_input_without_readline_lets_greenlets_run(outside: gmp.Node) -> None:
    program = (
        "import gmp, gmp.repl, sys; node = gmp.configure(node_id='inside', binds=['127.0.0.1:0']); port = gmp.port();"
        "port.on('ping', lambda n, r: gmp.send(r, 'pong', n)); gmp.group('prompt').join(port);"
        "assert 'readline' not in sys.modules; print('you said', input('your line: ')); node.close()"
    )
    with Terminal(sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {program}") as terminal:
        terminal.wait("your line: ")
        [port] = outside.group("prompt").wait(timeout=30)
        answers(outside, port)
        terminal.type("he")
        answers(outside, port)
        terminal.line("llo")
        terminal.wait("you said hello")
        assert terminal.wait_end() == 0


def test_a_startup_file_that_imports_it_is_enough(outside: gmp.Node, tmp_path: Path) -> None:
    startup = tmp_path / "startup.py"
    startup.write_text("import gmp.repl\n")
    with Terminal(sys.executable, "-q", PYTHONSTARTUP=str(startup)) as terminal:
        port = configure(terminal, ">>> ", outside, first="import gmp")
        answers(outside, port)
        terminal.line("gmp.repl.uninstall(); gmp.repl.uninstall(); print('now', 'gone')")
        terminal.wait("now gone")
        with pytest.raises(gmp.CallTimeout):
            outside.call(port, "ping", 0, timeout=1)
        terminal.line("gmp.repl.install()")
        terminal.wait(">>> ")
        answers(outside, port)


def test_the_hook_is_for_the_main_thread() -> None:
    def install() -> str:
        with pytest.raises(gmp.GmpError) as caught:
            InputHook().install()
        return str(caught.value)

    assert "main thread" in gevent.get_hub().threadpool.apply(install)

