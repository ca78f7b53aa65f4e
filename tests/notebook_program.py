"""Notebooks' kernels for tests: a program that drives one, and the class with which a test does.

What jupyter_client does blocks natively, so it is in a program of its own. A test writes a command per line to it, as
JSON, and reads what happens in the kernel, in order: a line for each text that a notebook would show, and for each end of
a cell.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import gevent
import gevent.queue
import gevent.subprocess as subprocess

PATIENCE = 60  # seconds


class Kernel:
    """A notebook's kernel, as a test sees it. What a notebook shows is kept in `shown`."""

    def __init__(self, startup: str = "") -> None:
        command = [sys.executable, "-m", "tests.notebook_program", startup]
        self._program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._happened: Any = {kind: gevent.queue.Queue() for kind in ("pid", "text", "end", "interrupted")}
        self._reader = gevent.spawn(self._read)
        self.shown = ""
        self.pid: int = self._wait("pid")

    def _read(self) -> None:
        for line in self._program.stdout:
            kind, value = json.loads(line)
            if kind == "text":
                self.shown += value
            self._happened[kind].put(value)

    def _wait(self, what: str) -> Any:
        return self._happened[what].get(timeout=PATIENCE)

    def _tell(self, *command: str) -> None:
        self._program.stdin.write(json.dumps(command) + "\n")
        self._program.stdin.flush()

    def begin(self, code: str) -> None:
        """Let a cell begin."""
        self._tell("run", code)

    def end(self) -> str:
        """Wait until a cell has ended, and return the name of its exception, or nothing."""
        return str(self._wait("end"))

    def run(self, code: str) -> str:
        """Run a cell to its end, and return what it has shown."""
        before = len(self.shown)
        self.begin(code)
        error = self.end()
        assert not error, (error, self.shown[before:])
        return self.shown[before:].strip()

    def see(self, text: str) -> None:
        """Wait until the notebook shows that."""
        while text not in self.shown:
            self._wait("text")

    def interrupt(self) -> None:
        """As the button does."""
        self._tell("interrupt")
        self._wait("interrupted")

    def restart(self) -> None:
        """As the button does."""
        self._tell("restart")
        self.pid = self._wait("pid")

    def close(self) -> None:
        """Let it end, by force if it does not."""
        self._program.stdin.close()
        try:
            self._program.wait(timeout=PATIENCE)
        finally:
            self._program.kill()
            self._program.wait()
            self._reader.join()
            self._program.stdout.close()


@contextmanager
def kernels(count: int = 1, startup: str = "") -> Iterator[list[Kernel]]:
    """So many kernels, which are gone at the end."""
    with ExitStack() as made:
        yield [made.enter_context(closing(Kernel(startup))) for _ in range(count)]


# ---- the program


def _emit(kind: str, value: Any) -> None:
    print(json.dumps([kind, value]), flush=True)


async def _pump(client: Any) -> None:
    """Tell of what the kernel shows, and of the ends of its cells, in their order."""
    cells, failed = set(), ""
    while True:
        output = await client.get_iopub_msg()
        kind, content, parent = output["msg_type"], output["content"], output["parent_header"].get("msg_id")
        if kind == "execute_input":
            cells.add(parent)
        elif kind == "stream":
            _emit("text", content["text"])
        elif kind in ("display_data", "update_display_data", "execute_result"):
            _emit("text", content["data"].get("text/plain", "") + "\n")
        elif kind == "error":
            failed = content["ename"]
            _emit("text", "\n".join(content["traceback"]))
        elif kind == "status" and content["execution_state"] == "idle" and parent in cells:
            cells.discard(parent)
            _emit("end", failed)
            failed = ""


async def _commands() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def _drive(folder: str) -> None:
    from jupyter_client.manager import AsyncKernelManager

    kernel: Any = AsyncKernelManager(kernel_name="python3", transport="ipc", connection_file=f"{folder}/kernel.json")
    kernel.shutdown_wait_time = float(PATIENCE)  # a busy machine needs more than the default
    await kernel.start_kernel(env={**os.environ, "IPYTHONDIR": folder})
    client = kernel.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=PATIENCE)
        pump = asyncio.create_task(_pump(client))
        _emit("pid", kernel.provisioner.pid)
        commands = await _commands()
        while line := await commands.readline():
            command, *rest = json.loads(line)
            if command == "run":
                client.execute(rest[0])
            elif command == "interrupt":
                await kernel.interrupt_kernel()
                _emit("interrupted", None)
            elif command == "restart":
                await kernel.restart_kernel()
                pump.cancel()
                await client.wait_for_ready(timeout=PATIENCE)
                pump = asyncio.create_task(_pump(client))
                _emit("pid", kernel.provisioner.pid)
        pump.cancel()
        await kernel.shutdown_kernel()
    finally:
        client.stop_channels()
        if await kernel.is_alive():
            await kernel.shutdown_kernel(now=True)


def main() -> None:
    with TemporaryDirectory(prefix="gmp-") as folder:
        startup = os.path.join(folder, "profile_default", "startup")
        os.makedirs(startup)
        with open(os.path.join(startup, "first.py"), "w") as file:
            file.write(sys.argv[1])
        asyncio.run(_drive(folder))


if __name__ == "__main__":
    main()
