"""What `import gmp`, a plain node and the command's help import: no more than they need; and what is imported later."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import gmp
from gmp.later import LATER, import_now, later

from .certificates import self_signed

SLOW_TO_IMPORT = {
    "ast", "asyncio", "cbor2", "cryptography", "dataclasses", "inspect", "secrets", "ssl", "tempfile", "zoneinfo",
}  # fmt: skip
FOR_A_PLAIN_NODE = {"gmp.config", "gmp.kernel.core", "hashlib", "ipaddress"}  # that is started, and has no peer


def modules_after(code: str, **environ: str) -> set[str]:
    """The modules that a new Python has imported when it has run `code`."""
    tell = "\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", "import sys; before = set(sys.modules)\n" + code + tell],
        env={**os.environ, **environ}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_gmp_imports_nothing_that_is_imported_later() -> None:
    found = modules_after("import gevent, gmp")
    already = modules_after("import gevent")
    assert not found & (LATER.keys() | SLOW_TO_IMPORT) - already


def test_no_use_of_a_public_name_is_slower_for_what_comes_later() -> None:
    """Python specialises no access to a module with a `__getattr__`: findings/python_module_getattr_slows_other_names.sh."""
    assert "__getattr__" not in vars(gmp)
    assert set(gmp.__all__) <= set(dir(gmp))


def test_a_plain_node_imports_what_it_needs_and_no_more() -> None:
    found = modules_after("import gmp\nwith gmp.Node(binds=['127.0.0.1:0'], secret='s' * 32): pass")
    assert not found & LATER.keys() - FOR_A_PLAIN_NODE - modules_after("import gevent; gevent.get_hub()")


IN_THE_HUB = """
import sys
import gmp
from gevent import getcurrent, get_hub

found = []

class Watch:
    def find_spec(self, name, path=None, target=None):
        if getcurrent() is hub:
            found.append(name)

class Service:
    def double(self, value):
        return value * 2

def serve(port):
    for value, reply in port:
        gmp.send(reply, value)

def echo(stream):
    with stream:
        stream.sendall(stream.recv(1000))

hub = get_hub()
sys.meta_path.insert(0, Watch())
settings = {"cert": sys.argv[1]} if sys.argv[1] else {"secret": "s" * 32, "unix_sockets": sys.argv[2] != "tcp"}
node = gmp.configure(node_id="there", binds=["127.0.0.1:0"], allow=["*"], **settings)
gmp.group("values").join(gmp.port(serve))
gmp.expose(Service(), "services")
print(node.binds[0], flush=True)
gmp.serve_forever()
print(found)
"""


@pytest.fixture(params=["plain", "tcp", "tls"])
def there(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where a node of another process listens, and how it is secured; it imports nothing in a callback of its loop."""
    cert = self_signed() if request.param == "tls" else ""
    command = [sys.executable, "-c", IN_THE_HUB, cert, request.param]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child.stdout.readline().strip(), {"cert": cert, "secret": None} if cert else {"secret": "s" * 32}
        finally:
            child.send_signal(signal.SIGTERM)
        assert child.stdout.read() == "[]\n"
    assert child.returncode == 0


def test_nothing_is_imported_in_a_callback_of_the_event_loop(
    there: tuple[str, dict[str, Any]], make_node: Callable[..., gmp.Node]
) -> None:
    """Whatever a peer begins: it would hold the loop up, and could not wait for another thread's import."""
    address, settings = there
    node = make_node("here", seeds=[address], **settings)
    node.wait_up(timeout=30)
    (values,) = node.group("values").wait(timeout=30)
    for value in (Decimal("1.5"), UUID(int=5), {1, 2}, (3, (4,)), 1 << 70, b"octets"):
        assert node.call(values, value) == (value,)
    assert gmp.remote("services", node=node).double(21) == 42
    with node.open_stream("there", "__main__:echo", timeout=30) as stream:
        stream.sendall(b"there and back")
        assert stream.recv(100) == b"there and back"
    node.send("there", "an unknown request")
    node.send("there#unknown", "to nobody")


CLOSED_MEANWHILE = """
import contextlib, socket, sys
import gevent, gmp
node = gmp.configure(binds=["127.0.0.1:0"], secret="s" * 32)
host, _, port = node.binds[0].rpartition(":")

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "uuid":
            node.close()

sys.meta_path.insert(0, Watch())
with socket.create_connection((host, int(port)), timeout=20) as visitor:
    node.ended.wait()
    gevent.idle()
    assert node.closed
    with contextlib.suppress(ConnectionResetError):
        assert visitor.recv(1000) == b""
"""


def test_a_first_visitor_is_let_go_when_the_node_is_closed_while_what_it_takes_is_imported() -> None:
    assert "uuid" in modules_after(CLOSED_MEANWHILE)


TWO_THREADS = """
import sys, threading
import gmp
outcomes = []

def use():
    try:
        gmp.port()
        outcomes.append("made")
    except gmp.GmpError as error:
        assert "another native thread" in str(error), error
        outcomes.append("told")

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "gmp.config" and threading.current_thread() is threading.main_thread():
            thread.start()
            thread.join(0.1)  # it has the time to come to the same import

thread = threading.Thread(target=use)
sys.meta_path.insert(0, Watch())
use()
thread.join()
assert sorted(outcomes) == ["made", "told"], outcomes
"""


def test_of_two_threads_that_make_the_default_node_at_once_one_is_told_whose_it_is() -> None:
    modules_after(TWO_THREADS)


INTERRUPTED = """
import sys
import gmp

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "{name}":
            sys.meta_path.remove(self)
            raise KeyboardInterrupt

sys.meta_path.insert(0, Watch())
node = gmp.Node(binds=["127.0.0.1:0"], seeds={seeds}, secret="s" * 32)
try:
    node.start()
except KeyboardInterrupt:
    assert not node.started
    node.start()
    assert node.started and len(node.binds) == 1, node.binds
    node.close()
else:
    raise AssertionError
"""


@pytest.mark.parametrize(("name", "seeds"), [("uuid", ["127.0.0.1:1"]), ("hashlib", [])])
def test_a_node_that_is_interrupted_while_what_it_takes_is_imported_can_be_started_again(
    name: str, seeds: list[str]
) -> None:
    modules_after(INTERRUPTED.format(name=name, seeds=seeds), GMP_UNIX_SOCKETS="yes")  # which wants hashlib


def test_the_settings_that_the_docstrings_name_are_there_after_import_gmp() -> None:
    modules_after("import gmp\nassert gmp.config.Settings().binds is None\nfrom gmp.config import Settings")


def test_the_types_of_all_that_is_public_can_be_asked_for_before_there_is_a_node() -> None:
    modules_after(
        """
import gmp, inspect, typing
for name in gmp.__all__:
    public = getattr(gmp, name)
    methods = vars(public).items() if isinstance(public, type) else ()
    for each in [public, *(method for name, method in methods if inspect.isfunction(method) and name[0] != "_")]:
        typing.get_type_hints(each)
"""
    )


# ---- how it is imported


MODULE = """
import sys
sys.modules["{name}_runs"].run()
whole = True
"""


class Running:
    """Stands beside a module that is imported later, and is run in the middle of it."""

    def __init__(self, run: Callable[[], None]) -> None:
        self.run = run


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], None]], Any]]:
    """Makes what stands for a module in the middle of which a function is run."""
    name = "imported_late_by_a_test"
    (tmp_path / f"{name}.py").write_text(MODULE.format(name=name))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(LATER, name, "a test")

    def make(run: Callable[[], None]) -> Any:
        monkeypatch.setitem(sys.modules, f"{name}_runs", Running(run))
        return later(name)

    yield make
    sys.modules.pop(name, None)


def test_a_module_is_imported_when_something_of_it_is_used(late: Callable[[Callable[[], None]], Any]) -> None:
    runs: list[int] = []
    module = late(lambda: runs.append(1))
    assert "imported_late_by_a_test" in repr(module)
    assert not runs
    assert module.whole
    assert module.whole
    assert runs == [1]
    with pytest.raises(AttributeError, match="has no attribute 'hole'"):
        _ = module.hole


@pytest.mark.parametrize("error", [KeyboardInterrupt, ImportError, MemoryError])
def test_a_module_that_is_struck_in_the_middle_is_not_kept(
    late: Callable[[Callable[[], None]], Any], error: type[BaseException]
) -> None:
    strikes = [error]

    def run() -> None:
        if strikes:
            raise strikes.pop()

    module = late(run)
    with pytest.raises(error):
        _ = module.whole
    assert module.whole


def test_of_two_threads_one_waits_for_the_others_import(late: Callable[[Callable[[], None]], Any]) -> None:
    begun, go_on, runs = threading.Event(), threading.Event(), []

    def run() -> None:
        runs.append(1)
        begun.set()
        assert go_on.wait(20)

    module, found = late(run), []
    threads = [threading.Thread(target=lambda: found.append(module.whole)) for _ in range(2)]
    threads[0].start()
    assert begun.wait(20)
    threads[1].start()
    threads[1].join(0.05)  # it has the time to find the half of it
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == [True, True]
    assert runs == [1]


def test_what_comes_later_is_found_from_another_working_directory(tmp_path: Path) -> None:
    package = Path(gmp.__file__).parent
    code = f"""
import os, sys
os.chdir({str(package.parent)!r})
sys.path[:] = ["", *(each for each in sys.path if each not in ("", {str(package.parent)!r}))]
import gmp
os.chdir({str(tmp_path)!r})
class Service:
    def double(self, value): return 2 * value
assert gmp.remote(gmp.expose(Service())).double(2) == 4
"""
    assert "gmp.objects.service" in modules_after(code)


def test_what_is_not_in_the_table_is_refused() -> None:
    for use in (later, import_now):
        with pytest.raises(AssertionError):
            use("email")


# ---- the command


OF_A_NODE = {"gevent", "gmp.exposing", "gmp.face", "gmp.kernel", "gmp.mesh", "gmp.net", "gmp.objects", "gmp.ports"}
COMMAND = """
import sys
from gmp_command import main
sys.argv = {argv}
try:
    main()
except SystemExit as error:
    assert not error.code, error.code
"""


@pytest.mark.parametrize("words", ["--help", "--version", "call --help", "inspect --help", "completion bash"])
def test_the_commands_help_imports_no_node_and_no_gevent(words: str) -> None:
    pytest.importorskip("click")
    assert not modules_after(COMMAND.format(argv=["gmp", *words.split()])) & OF_A_NODE


def test_the_completion_of_commands_imports_no_node_and_no_gevent() -> None:
    pytest.importorskip("click")
    completing = {"_GMP_COMPLETE": "bash_complete", "COMP_WORDS": "gmp n", "COMP_CWORD": "1"}
    assert not modules_after(COMMAND.format(argv=["gmp"]), **completing) & OF_A_NODE


def test_in_the_command_each_public_name_can_be_the_first_that_is_used() -> None:
    modules_after(
        """
import gmp_command, gmp
names = list(gmp.__all__)
for name in names:
    for module in [each for each in sys.modules if each == "gmp" or each.startswith("gmp.")]:
        del sys.modules[module]
    import gmp
    assert getattr(gmp, name) is getattr(gmp, name), name
    assert "__getattr__" in vars(gmp) or all(each in vars(gmp) for each in names), name
"""
    )


def test_in_the_command_two_threads_may_use_the_first_name() -> None:
    modules_after(
        """
import gmp_command, gmp, threading
assert "__getattr__" in vars(gmp)
found, both = [], threading.Barrier(2)
def use():
    both.wait()
    found.append(gmp.Node)
threads = [threading.Thread(target=use) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert found == [gmp.Node, gmp.Node]
assert "__getattr__" not in vars(gmp)
"""
    )


def test_in_the_command_a_name_that_is_not_there_is_told_and_a_star_import_gives_all() -> None:
    modules_after(
        """
import gmp_command, gmp
try: gmp.sned
except AttributeError as error: assert "'gmp' has no attribute 'sned'" in str(error)
else: raise AssertionError
assert "__getattr__" in vars(gmp)
from gmp import *
assert all(globals()[name] is getattr(gmp, name) for name in gmp.__all__)
"""
    )
