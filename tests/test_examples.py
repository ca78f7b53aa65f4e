"""Every example, run as a user would: the commands of its README, typed into and killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess as native
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gevent
import gevent.subprocess as subprocess
import pytest

import gmp

from .addresses import free_address

EXAMPLES = Path(__file__).parent.parent / "examples"


#: what gevent prints when Ctrl-C strikes just as a greenlet runs; it reaches the program all the same
STRUCK = re.compile(
    r"Traceback \(most recent call last\):\n(?: .*\n|\n)*KeyboardInterrupt\n\S+ <Greenlet .* failed with KeyboardInterrupt\n"
)


class Program:
    """A program of an example; `text` is all that it has printed."""

    def __init__(self, folder: str, *arguments: str, interpreter: Sequence[str] = (sys.executable, "-u")) -> None:
        self.text = ""
        self._process: Any = subprocess.Popen(
            [*interpreter, *arguments],
            cwd=EXAMPLES / folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self._reader = gevent.spawn(self._read)

    def _read(self) -> None:
        while data := self._process.stdout.readline():
            self.text += data.decode()

    def wait(self, text: str, timeout: float = 40.0) -> None:
        with gevent.Timeout(timeout, AssertionError(f"{text!r} was not printed")):
            while text not in self.text:
                if self._reader.ready():
                    raise AssertionError(f"{text!r} was not printed, but:\n{self.text}")
                gevent.sleep(0.02)

    @property
    def errors(self) -> list[str]:
        """The lines that begin a traceback, but for those of a Ctrl-C that struck a greenlet."""
        return [line for line in STRUCK.sub("", self.text).splitlines() if "Traceback" in line]

    def type(self, line: str) -> None:
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def kill(self, number: int = signal.SIGKILL) -> None:
        self._process.send_signal(number)

    def wait_end(self, timeout: float = 50.0) -> int:
        with gevent.Timeout(timeout, AssertionError(f"it did not end:\n{self.text}")):
            self._reader.join()
            return int(self._process.wait())

    def close(self) -> None:
        self.kill()
        self._process.stdin.close()
        self.wait_end()
        self._process.stdout.close()


def test_the_shop_is_right_at_the_end_though_its_processes_are_killed(run: Callable[..., Program]) -> None:
    shop = run("shop", "shop.py", "--seconds", "4")
    assert shop.wait_end() == 0, shop.text
    assert "it agrees" in shop.text


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Program]]:
    monkeypatch.setenv("GMP_SECRET", "geheim")
    programs: list[Program] = []

    def run(folder: str, *arguments: str) -> Program:
        programs.append(Program(folder, *arguments))
        return programs[-1]

    yield run
    for program in programs:
        program.close()


@pytest.fixture
def address() -> str:
    """An address that nobody uses."""
    return free_address()


@pytest.mark.slow
def test_chat_server_and_clients_survive_each_others_death(run: Callable[..., Program], address: str) -> None:
    server = run("chat", "server.py", "--bind", address)
    server.wait("the room is open")
    ada = run("chat", "client.py", "ada", "--seed", address)
    ada.wait("<*> ada is here")
    bob = run("chat", "client.py", "bob", "--seed", address)
    for client in (ada, bob):
        client.wait("<*> bob is here")
    ada.type("hello")
    bob.wait("<ada> hello")
    server.kill()
    for client in (ada, bob):
        client.wait("* the server is gone")
    ada.type("is anybody there?")
    again = run("chat", "server.py", "--bind", address)
    again.wait("<ada> is anybody there?")
    again.wait("<*> bob is here")
    ada.type("there you are")
    bob.wait("<ada> there you are")
    bob.kill()
    ada.wait("<*> bob left")
    ada.type("alone")
    ada.wait("<ada> alone")
    for program in (ada, again):
        program.kill(signal.SIGINT)
        assert program.wait_end() == 0
        assert not program.errors, program.text


@pytest.mark.slow
def test_jobs_are_all_done_although_a_worker_is_killed(run: Callable[..., Program], address: str) -> None:
    boss = run("jobs", "boss.py", "30000000", "--jobs", "300", "--bind", address)
    boss.wait("waiting for workers")
    first, second = (run("jobs", "worker.py", "--seed", address, "--ports", "2") for _ in range(2))
    second.wait("works")
    boss.wait("60 of 300")
    boss.wait("4 workers")
    first.kill()
    boss.wait("transport_error")
    run("jobs", "worker.py", "--seed", address, "--ports", "1")
    assert boss.wait_end() == 0
    assert "1857859 primes below 30000000" in boss.text
    again = re.search(r"(\d+) jobs were sent again", boss.text)
    assert again is not None
    assert 1 <= int(again[1]) <= 4
    second.kill(signal.SIGTERM)
    assert second.wait_end() == 0


@pytest.mark.slow
def test_a_job_that_kills_its_workers_is_given_up_and_the_pool_lives(run: Callable[..., Program], address: str) -> None:
    program = (
        "import worker\n"
        "count = worker.primes_between\n"
        "def primes_between(low, high):\n"
        "    assert low != 300, 'an unlucky range'\n"
        "    return count(low, high)\n"
        "source = open('worker.py').read().replace('primes_between(low, high))', 'unlucky(low, high))')\n"
        "exec(compile(source, 'worker.py', 'exec'), {'__name__': '__main__', 'unlucky': primes_between})\n"
    )
    boss = run("jobs", "boss.py", "1000", "--jobs", "10", "--bind", address)
    boss.wait("waiting for workers")
    worker = run("jobs", "-c", program, "--seed", address, "--ports", "2")
    assert boss.wait_end() == 1
    assert "given up: [(300, 400)]" in boss.text
    assert "152 primes below 1000" in boss.text  # without the 16 from 300 to 400
    assert boss.text.count("died of ['die', 'AssertionError: an unlucky range']") == 3
    worker.kill(signal.SIGTERM)
    assert worker.wait_end() == 0


def test_the_ring_goes_round_and_is_taken_down(run: Callable[..., Program]) -> None:
    ring = run("ring", "ring.py", "--nodes", "2", "--ports", "40", "--rounds", "5")
    assert ring.wait_end() == 0, ring.text
    assert "the number is 200: 5 rounds over 40 ports on 2 nodes" in ring.text
    assert "the ring is down" in ring.text


@pytest.mark.slow
def test_what_fails_is_started_anew_until_the_supervisor_gives_up(run: Callable[..., Program]) -> None:
    weather = run("supervised", "weather.py", "--seconds", "3", "--fails", "0.2", "--most", "50")
    assert weather.wait_end() == 0
    assert "all is stopped" in weather.text
    starts = re.findall(r"^(\w+): started$", weather.text, re.M)
    assert starts == ["sensor", "average", "display"] * (len(starts) // 3)
    weather = run("supervised", "weather.py", "--seconds", "60", "--fails", "1", "--most", "2")
    assert weather.wait_end() == 1
    assert "the supervisor gave up: ('restart_limit', 'sensor'" in weather.text


def test_the_session_at_the_prompt_is_as_it_says() -> None:
    # in a process of its own: the page closes the default node, and installs the hook of the prompt
    command = [sys.executable, "-m", "doctest", "-o", "ELLIPSIS", str(EXAMPLES / "prompt.md")]
    done = native.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


FOLDERS = [path for path in sorted(EXAMPLES.iterdir()) if path.is_dir()]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_example_has_a_readme_and_its_programs_compile(folder: Path) -> None:
    assert (folder / "README.md").read_text().startswith("# ")
    for path in folder.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")


@pytest.mark.slow
def test_a_large_file_arrives_whole_and_what_is_wrong_is_refused(
    run: Callable[..., Program], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMP_CONNECT_TIMEOUT", "2")
    store = tmp_path / "store"
    store.mkdir()
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(1 << 20) * 100)
    keeper = run("files", "-m", "store", str(store), "--bind", address)
    keeper.wait("keeps files in")
    sender = run("files", "send.py", str(big), "store", "--seed", address)
    assert sender.wait_end() == 0, sender.text
    assert "100 % of 104.9 MB" in sender.text
    assert "big.bin: kept" in sender.text
    assert (store / "big.bin").read_bytes() == big.read_bytes()
    wrong = tmp_path / ".hidden"
    wrong.write_bytes(b"x")
    sender = run("files", "send.py", str(wrong), "store", "--seed", address)
    assert sender.wait_end() == 1
    assert "refused: that is no file name" in sender.text
    sender = run("files", "send.py", str(big), "nowhere", "--seed", address)
    assert sender.wait_end() == 1
    assert "nowhere" in sender.text
    assert [path.name for path in store.iterdir()] == ["big.bin"]
    keeper.kill(signal.SIGTERM)
    assert keeper.wait_end() == 0


def get(url: str) -> Any:
    """What a page of JSON has; None if it cannot be had yet."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)
    except OSError:
        return None


def test_fastapi_in_front_of_gevent_workers_one_of_which_is_killed(
    run: Callable[..., Program], address: str, make_node: Callable[..., gmp.Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi")
    make_node("seed", binds=[address])
    monkeypatch.setenv("GMP_SEEDS", address)
    web = free_address()
    port = web.rpartition(":")[2]
    workers = [run("fastapi_front", "worker.py") for _ in range(2)]
    front = run("fastapi_front", "-m", "uvicorn", "front:app", "--port", port)
    pool = gevent.get_hub().threadpool

    def ask(path: str) -> Any:
        return pool.apply(get, (f"http://{web}/{path}",))

    def wait(condition: Callable[[], object]) -> None:
        with gevent.Timeout(40, AssertionError(front.text)):
            while not condition():
                gevent.sleep(0.05)

    wait(lambda: len(ask("workers") or ()) == 2)
    answers = gevent.get_hub().threadpool.map(get, [f"http://{web}/primes/100000"] * 8)
    assert {answer["primes"] for answer in answers} == {9592}
    workers[0].kill()
    assert ask("primes/1000")["primes"] == 168
    wait(lambda: len(ask("workers") or ()) == 1)
    front.kill(signal.SIGINT)
    assert front.wait_end() in (0, -signal.SIGINT)
    assert not front.errors, front.text
