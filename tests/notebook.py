"""A notebook's kernel, driven as a notebook drives it, in a program of its own: what jupyter_client does blocks natively."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

PATIENCE = 40  # seconds


class Notebook:
    """A kernel, and a client that has cells run."""

    def __init__(self, folder: str) -> None:
        from jupyter_client.manager import KernelManager

        self.kernel: Any = KernelManager(kernel_name="python3", transport="ipc", connection_file=f"{folder}/kernel.json")
        # by default a kernel that does not end within 2.5 s gets SIGTERM: too few for a busy machine
        self.kernel.shutdown_wait_time = 2.0 * PATIENCE
        self.kernel.start_kernel(env={**os.environ, "IPYTHONDIR": folder})
        self._client = self.kernel.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=PATIENCE)

    def start(self, code: str, text: str = "") -> str:
        """Let a cell begin, and wait until it has printed the text."""
        # by default a cell that comes just behind one that failed is answered "aborted", even if sent after that one's reply
        cell = str(self._client.execute(code, store_history=False, stop_on_error=False))
        while text:
            output = self._client.get_iopub_msg(timeout=PATIENCE)
            if text in str(output["content"].get("text", "")):
                break
        return cell

    def wait(self, cell: str) -> str:
        """Wait until it has ended, and return the name of its exception or nothing."""
        while True:
            reply = self._client.get_shell_msg(timeout=PATIENCE)
            if reply["parent_header"].get("msg_id") == cell:
                assert reply["content"]["status"] in ("ok", "error"), reply
                return str(reply["content"].get("ename", ""))

    def run(self, code: str) -> None:
        """Run a cell to its end."""
        error = self.wait(self.start(code))
        assert not error, error

    def close(self) -> None:
        self._client.stop_channels()
        self.kernel.shutdown_kernel(now=True)
        self.kernel.cleanup_resources()


@contextmanager
def notebook() -> Iterator[Notebook]:
    """A notebook with its own kernel, which is killed at the end unless it has ended."""
    with TemporaryDirectory(prefix="gmp-") as folder:
        made = Notebook(folder)
        try:
            yield made
        finally:
            made.close()
