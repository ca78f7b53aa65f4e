"""The READMEs of the examples, followed line by line, each in a fresh environment and a network of its own.

The environment has what the README says to install, and nothing else (those that say nothing need gmp alone). The commands
run as they stand there, side by side, in a home directory and a network namespace of their own, so that their ports are
free. (`tests/test_examples.py` tries what the examples can do; systemd's, Kubernetes' and Grafana's have tests elsewhere,
and so has the notebook.)
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess as native
import sys
from collections.abc import Iterator
from pathlib import Path

import gevent
import gevent.subprocess as subprocess
import pytest

from .real_perl import missing

CLONE = Path(__file__).parent.parent
TOGETHER = ("setup.py", "setup.cfg", "README.md", "gmp_command.py", "gmp_pytest.py", "gmp", "examples")
PAGES = """
import sys, time, urllib.request
for url in sys.argv[1:]:
    for _ in range(400):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                print(url, answer.status)
            break
        except OSError:
            time.sleep(0.1)
"""
#: for each: what is typed behind its commands, and what must be printed by it or them
WEB = {
    "fastapi_front": ("http://127.0.0.1:8000/primes/1000", "http://127.0.0.1:8000/workers"),
    "web_chat": ("http://127.0.0.1:8000/", "http://127.0.0.1:8001/"),
    "socketio_chat": tuple(f"http://127.0.0.1:{port}/socket.io/?EIO=4&transport=polling" for port in (8000, 8001)),
}
PLAIN = {
    "aemp_chat": ["the room is open", "<*> ada is here", "<*> bob is here"],
    "chat": ["the room is open", "<*> ada is here", "<*> bob is here"],
    "files": ["store keeps files in", "kept"],
    "jobs": ["216816 primes"],
    "ring": ["a hop"],
    "shop": ["it agrees"],
    "supervised": ["average"],
}

PERL = {
    "perl": ["oslo is there", "rome is there", "oslo: degrees ", "rome: it is warmer than 17 degrees!", "(in order)"],
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def _has_namespaces() -> bool:
    return os.getuid() == 0 and native.run(["unshare", "--net", "true"], check=False, stderr=native.DEVNULL).returncode == 0


def commands(example: str) -> list[str]:
    """The indented lines of a README, without the comments behind them."""
    lines = (CLONE / "examples" / example / "README.md").read_text().splitlines()
    return [line[4:].partition("  #")[0].rstrip().removesuffix("&").rstrip() for line in lines if line.startswith("    ")]


class Follower:
    """Follows one README."""

    def __init__(self, example: str, folder: Path) -> None:
        self.text = ""
        self.clone = folder / "clone"
        self.clone.mkdir()
        for name in TOGETHER:
            copy = shutil.copytree if (CLONE / name).is_dir() else shutil.copy
            copy(CLONE / name, self.clone / name)
        self._example = self.clone / "examples" / example
        (folder / "home").mkdir()
        names = ("GMP_SECRET", "GMP_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "PYTHONPATH", "VIRTUAL_ENV")
        self._environ = {name: value for name, value in os.environ.items() if name not in names}
        self.home = folder / "home"
        self._environ |= {"HOME": str(self.home), "PATH": f"{folder}/venv/bin:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
        native.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, env=self._environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: gevent.Greenlet[..., None] | None = None

    def install(self, line: str) -> None:
        """Run a `pip install` line: here, where there is a network, with the pip cache of this user."""
        cache = os.environ.get("PIP_CACHE_DIR") or str(Path("~/.cache/pip").expanduser())
        done = subprocess.run(
            ["bash", "-c", line], cwd=self._example, env={**self._environ, "PIP_CACHE_DIR": cache}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, done.stdout.decode()

    def start(self, lines: list[str]) -> None:
        """Run the lines side by side in a network of their own, in this order; `export` and the like at once."""
        typed = [line if line.startswith("export ") else f"(sleep 1000 | {line}) &" for line in lines]
        script = "\n".join(["ip link set lo up", *typed, "wait"])
        self._process = subprocess.Popen(
            ["unshare", "--net", "--pid", "--fork", "--kill-child", "bash", "-c", script],
            cwd=self._example, env=self._environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )
        self._reader = gevent.spawn(self._read, self._process.stdout)

    def _read(self, pipe: object) -> None:
        while line := pipe.readline():  # type: ignore[attr-defined]
            self.text += line.decode()

    def wait(self, text: str, timeout: float = 90.0) -> None:
        with gevent.Timeout(timeout, AssertionError(f"{text!r} was not printed")):
            while text not in self.text:
                assert self._reader is not None
                assert not self._reader.ready(), f"{text!r} was not printed, but:\n{self.text}"
                gevent.sleep(0.05)

    def close(self) -> None:
        """End everything that runs in its namespaces."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            assert self._reader is not None
            self._reader.join(timeout=20)
            self._process.stdout.close()


@pytest.fixture
def follower(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Follower]:
    if not _has_namespaces():
        pytest.skip("needs root, to make a network namespace")
    made = Follower(request.node.callspec.params["example"], tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("example", WEB)
def test_a_web_example(follower: Follower, example: str) -> None:
    install, *lines = commands(example)
    assert install.startswith("pip install ")
    follower.install(install)
    check = follower.home / "pages.py"
    check.write_text(PAGES)
    follower.start([*lines, f"python {check} {' '.join(repr(url) for url in WEB[example])}"])
    for url in WEB[example]:
        follower.wait(f"{url} 200")
    assert follower.text.count("gmp node ") >= 2
    for bad in ("Traceback", "Error", "ontrol socket"):
        assert bad not in follower.text, follower.text
    assert not list(follower.home.glob("**/*.ctl"))


@pytest.mark.parametrize("example", PERL)
def test_an_example_with_perl(follower: Follower, example: str) -> None:
    if missing():
        pytest.skip(f"no nodes of AnyEvent::MP here: {missing()}")
    follower.install("pip install ../..")
    follower.start([f"export PERL5LIB={os.environ['GMP_PERL_LIB']}", *commands(example)])
    for text in PERL[example]:
        follower.wait(text)
    assert "Traceback" not in follower.text, follower.text


@pytest.mark.parametrize("example", PLAIN)
def test_an_example_that_needs_gmp_alone(follower: Follower, example: str, tmp_path: Path) -> None:
    lines = commands(example)
    assert not [line for line in lines if line.startswith("pip ")]
    follower.install("pip install ../..")
    (tmp_path / "srv").mkdir()
    (tmp_path / "big.iso").write_bytes(os.urandom(3_000_000))
    places = {"/srv/files": str(tmp_path / "srv"), "big.iso": str(tmp_path / "big.iso")}
    for name, place in places.items():
        lines = [line.replace(name, place) for line in lines]
    follower.start(lines)
    for text in PLAIN[example]:
        follower.wait(text)
    assert "Traceback" not in follower.text, follower.text


def test_every_example_is_followed_or_tried_elsewhere() -> None:
    elsewhere = {"grafana", "k8s", "notebook", "systemd"}
    assert {path.parent.name for path in (CLONE / "examples").glob("*/README.md")} == {*WEB, *PLAIN, *PERL, *elsewhere}
