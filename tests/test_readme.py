"""The README's first program, run as it stands: two processes without any configuration but a bind and a seed."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import gevent.subprocess as subprocess

from .addresses import free_address
from .gmp_command import GMP

README = (Path(__file__).parent.parent / "README.md").read_text()
GATE = (Path(__file__).parent.parent / ".ci" / "run").read_text()


def test_the_two_programs_of_the_readme_talk_without_configuration(tmp_path: Path) -> None:
    address = free_address()
    serve, ask = (text.replace("127.0.0.1:4040", address) for text in re.findall(r"```python\n(.*?)```", README, re.S))
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GMP_")}
    environ |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    with subprocess.Popen([sys.executable, "-c", serve], stderr=subprocess.PIPE, env=environ) as server:
        try:
            asked = subprocess.run(
                [sys.executable, "-c", ask], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ, timeout=40
            )
            assert asked.stdout.decode() == "('you said', 'hello')\n", asked.stderr.decode()
            for line in re.findall(r"\.venv/bin/gmp (\w+ .*--seed .*)", README):
                words = line.replace("127.0.0.1:4040", address).split()
                told = subprocess.run([GMP, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ, timeout=40)
                assert told.returncode == 0, told.stdout.decode() + told.stderr.decode()
        finally:
            server.send_signal(signal.SIGTERM)
            errors = server.stderr.read().decode()
    assert server.returncode == 0, errors
    assert "Traceback" not in errors
    secret = tmp_path / "config" / "gmp" / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600


def test_the_gate_runs_the_test_command_of_the_readme_as_it_stands() -> None:
    command = next(line.strip() for line in README.splitlines() if ".venv/bin/pytest" in line)
    run, _, rest = command.rpartition(" && ")
    assert f"{run} && {rest} < /dev/null".replace("pip install ", "pip install --quiet ") in GATE
