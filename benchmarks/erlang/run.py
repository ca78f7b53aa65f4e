"""Runs a workload in Erlang: ``python -m benchmarks.erlang.run WORKLOAD``; needs ``erl`` and ``erlc``.

The port mapper that Erlang's nodes find each other by is one of our own, on a port of its own, on loopback only.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.programs.measure import free_port

HERE = Path(__file__).parent
FAR = "measured_far@127.0.0.1"
LOCAL = ("W1", "W2", "W7", "W12", "W13")
GROUP_NODES, MEMBERS = 10, 100


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], *, wait: bool) -> Iterator[None]:
    """A process that runs meanwhile; `wait`: until it has printed a line."""
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        if wait:
            assert process.stdout is not None
            if process.stdout.readline().strip() != b"ready":
                raise SystemExit(f"{command[0]} did not start")
        yield
    finally:
        process.kill()
        process.wait()


def main(workload: str) -> None:
    """Compile, start the far nodes, measure."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        subprocess.run(["erlc", "-o", folder, str(HERE / "measured.erl")], check=True)
        environment = {
            **os.environ,
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_BYTES": "0",
            "HOME": folder,
        }
        stack.enter_context(running(["epmd"], environment, wait=False))
        flags = ["-noinput", "-pa", folder, "-setcookie", "measured", "-start_epmd", "false"]
        erl = ["erl", *flags, "-kernel", "inet_dist_use_interface", "{127,0,0,1}"]

        def far(name: str, members: int, seed: str) -> None:
            command = [*erl, "-name", name, "-run", "measured", "far", str(members), seed]
            stack.enter_context(running(command, environment, wait=True))

        if workload not in LOCAL:
            far(FAR, 0, "none")
        if workload == "W9":
            names = [f"measured_group{number}@127.0.0.1" for number in range(GROUP_NODES)]
            for name in names:
                far(name, MEMBERS, FAR)
            environment["MEASURED_NODES"] = " ".join(names)
        near = [] if workload == "W8" else ["-name", "measured_near@127.0.0.1"]
        subprocess.run([*erl, *near, "-run", "measured", "near", workload], env=environment, check=True)


if __name__ == "__main__":
    main(sys.argv[1])
