"""SystemExit, KeyboardInterrupt and Ctrl-C: as gevent users expect, in programs of their own."""

from __future__ import annotations

import signal
import sys

import gevent.subprocess as subprocess
import pytest


def run(program: str, *, interrupt_after: str = "") -> tuple[int, str, str]:
    """Run a program; at that line of its output send it a SIGINT. Returns its exit code, output and errors."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    output = ""
    if interrupt_after:
        while interrupt_after not in output:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            output += line
        process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    return process.returncode, output + rest, errors


@pytest.mark.parametrize("where", ["body", "handler", "callback", "spawned"])
def test_sys_exit_ends_the_program_with_its_code(where: str) -> None:
    code, output, errors = run(f"""
import sys, gevent, gmp
port = gmp.port()
def leave(*_):
    sys.exit(3)
watch = gmp.monitor(port, lambda *reason: print("died", reason[:2]))
where = {where!r}
if where == "body": gmp.port(leave)
if where == "handler": port.on("go", leave); gmp.send(port, "go")
if where == "callback": gmp.after(0, leave)
if where == "spawned": port.spawn(leave)
try:
    gevent.sleep(20)
except SystemExit as error:
    print("main got", error.code)
    gevent.sleep(0.01)
    raise
""")
    assert code == 3
    assert "main got 3" in output
    assert "Traceback" not in errors
    if where in ("handler", "spawned"):
        assert "died ('die', 'SystemExit: 3')" in output


def test_ctrl_c_in_a_computing_body_reaches_the_main_greenlet_and_kills_that_port_alone() -> None:
    code, output, errors = run(
        """
import time, gevent, gmp
other = gmp.port()
other.on(None, lambda *message: gmp.send(message[-1], "still here"))
def compute(port):
    print("computing")
    while True: time.monotonic()
port = gmp.port(compute)
try:
    gevent.sleep(20)
except KeyboardInterrupt:
    print("interrupted", port.reason[:2])
    print(gmp.call(other, "x", timeout=10), gmp.call(gmp.port(lambda port: gmp.send(port.receive()[0], 7)), timeout=10))
""",
        interrupt_after="computing",
    )
    assert code == 0, errors
    assert "interrupted ('die', 'KeyboardInterrupt: ')" in output
    assert "('still here',) (7,)" in output


@pytest.mark.parametrize("what", ["port.receive(timeout=20)", "gmp.call(port, 'x')", "port.join(20)"])
def test_ctrl_c_at_a_prompt_interrupts_what_waits_and_the_node_lives_on(what: str) -> None:
    code, output, errors = run(
        f"""
import gevent, gmp
port = gmp.port()
echo = gmp.port()
echo.on("echo", lambda reply: gmp.send(reply, "echoed"))
gmp.after(0.01, lambda: print("ready"))
try:
    {what}
except KeyboardInterrupt:
    print(gmp.call(echo, "echo", timeout=10), port.alive)
""",
        interrupt_after="ready",
    )
    assert code == 0, errors
    assert "('echoed',) True" in output
