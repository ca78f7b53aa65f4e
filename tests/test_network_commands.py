"""The commands that talk to a network, run as processes against one of processes."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gevent
import gevent.pool
import pytest

from .addresses import BY_UNIX
from .gmp_command import Commands, processes_of_session, wait_for

SLOW = pytest.mark.slow
TALKING = {
    "send": ("send", "worker#x", "hello"),
    "call": ("call", "worker#x", "hello"),
    "inspect": ("inspect", "worker#x"),
    "monitor": ("monitor", "worker#x"),
    "spawn": ("spawn", "worker", "tests.command_services:echo"),
    "eval": ("eval", "worker", "1+1"),
    "nodes": ("nodes",),
    "groups": ("groups",),
    "family": ("family",),
    "trace": ("trace",),
    "top": ("top",),
}


@dataclass
class Net:
    gmp: Commands
    seed: str
    worker_pid: int


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    """A seed and two workers; the second one allows eval."""
    commands = Commands(tmp_path_factory.mktemp("net"))
    try:
        _, seed = commands.node("--node-id", "seed")
        commands.environ["GMP_SEEDS"] = seed
        service = ("--service", "tests.command_services:echo")
        jobs = ("--service", "tests.command_services:jobs")
        worker, _ = commands.node("--node-id", "worker", *service, *jobs)
        commands.node("--node-id", "liberal", "--set", "allow_eval=true", *service)
        with gevent.Timeout(40):
            while len(commands("groups", "echo", "--json").out.split("#")) < 3:
                gevent.sleep(0.1)
        yield Net(commands, seed, worker.pid)
    finally:
        commands.close()


@pytest.fixture(scope="module")
def worker_port(net: Net) -> str:
    return next(port for port in net.gmp("groups", "echo", "--json").json if port.startswith("worker#"))


def test_a_call_prints_the_reply_and_arguments_that_look_like_json_are(net: Net, worker_port: str) -> None:
    result = net.gmp("call", worker_port, "hello", "[1, null]", '{"a": 2}', '"5"', "6")
    assert (result.code, result.out) == (0, 'echo hello [1, null] {"a": 2} 5 6\n')
    result = net.gmp("call", "@echo", "[1]", '"5"', "--json")
    assert result.json == ["echo", [1], "5"]
    assert net.gmp("call", "seed", "time", "--json").json[0] > 0


def test_a_method_of_a_service_is_called(net: Net) -> None:
    assert net.gmp("call", "@jobs", "add", "1", "b=2").out == "3\n"
    assert net.gmp("call", "@jobs", "add", '"x"', 'b="=y"', "--json").json == "x=y"
    assert net.gmp("call", "@jobs", "rows", "2").out == '{"row": 0}\n{"row": 1}\n'
    port = next(iter(net.gmp("groups", "jobs", "--json").json))
    assert net.gmp("call", "--method", port, "add", "1").out == "1\n"
    failed = net.gmp("call", "@jobs", "fail")
    assert failed.code == 1
    assert "fail of worker#" in failed.err
    assert "LookupError: nothing there" in failed.err
    wrong = {("nonsense",): "has no method 'nonsense'", (): "which method?", ("add", "b=1", "2"): "come first"}
    for words, told in wrong.items():
        refused = net.gmp("call", "@jobs", *words)
        assert refused.code in (1, 2)
        assert told in refused.err


def test_a_service_is_inspected(net: Net) -> None:
    shown = net.gmp("inspect", "@jobs").out
    assert "add(a: int, b: int = 0) -> int\n    Add two numbers.\n" in shown
    assert "rows(count: int) -> " in shown
    assert "[streams]" in shown
    (told,) = net.gmp("inspect", "@jobs", "--json").json.values()
    assert (told["name"], told["doc"]) == ("jobs", "Does jobs.")


def test_what_begins_like_json_and_is_none_is_told(net: Net, worker_port: str) -> None:
    result = net.gmp("call", worker_port, "[1")
    assert result.code == 2
    assert "[1" in result.err


def test_a_call_that_nobody_answers_ends_in_time_with_code_4(net: Net, worker_port: str) -> None:
    result = net.gmp("call", worker_port, "quiet", "-t", "1")
    assert result.code == 4
    assert "no reply" in result.err


def test_a_sent_message_arrives_and_a_port_that_is_not_there_is_code_3(net: Net, worker_port: str) -> None:
    assert net.gmp("send", "@echo", "quiet", "--json").json["sent"]
    assert net.gmp("send", worker_port, "quiet").code == 0
    result = net.gmp("send", "worker#nothing", "hello")
    assert result.code == 3
    assert "there is no port worker#nothing" in result.err
    assert net.gmp("send", "@nobody", "hello").code == 3


@pytest.mark.parametrize("name", ["spawn", *(pytest.param(n, marks=SLOW) for n in ("send", "call", "monitor", "eval"))])
def test_an_unknown_node_is_named_with_code_3(net: Net, name: str) -> None:
    arguments = [argument.replace("worker", "stranger") for argument in TALKING[name]]
    result = net.gmp(*arguments, "-t", "2")  # long enough to find the seed first
    assert result.code == 3
    assert "stranger" in result.err


@pytest.mark.parametrize("name", TALKING)
@pytest.mark.slow
def test_without_a_seed_that_is_up_every_command_says_which_and_ends_with_code_3(net: Net, name: str) -> None:
    result = net.gmp(*TALKING[name], GMP_SEEDS="127.0.0.1:1")
    assert result.code == 3
    assert "127.0.0.1:1: nobody listens there" in result.err


@pytest.mark.parametrize("name", TALKING)
@pytest.mark.slow
def test_with_a_wrong_secret_every_command_ends_with_code_3(net: Net, name: str) -> None:
    result = net.gmp(*TALKING[name], GMP_SECRET="wrong")
    assert result.code == 3
    assert "no seed can be reached" in result.err


def test_without_seeds_with_an_unusable_file_or_a_wrong_secret_a_command_says_so(net: Net) -> None:
    result = net.gmp("nodes", GMP_SEEDS="127.0.0.1:1")
    assert (result.code, "refused" in result.err) == (3, True)
    result = net.gmp("nodes", GMP_SECRET="wrong")
    assert result.code == 3
    result = net.gmp("nodes", GMP_SEEDS="")
    assert (result.code, "gmp config set seeds" in result.err) == (2, True)
    broken = net.gmp.folder / "broken.toml"
    broken.write_text("seeds = [\n")
    result = net.gmp("nodes", GMP_CONFIG=str(broken))
    assert (result.code, str(broken) in result.err) == (2, True)


def test_eval_needs_leave_and_says_how_it_is_given(net: Net) -> None:
    result = net.gmp("eval", "worker", "1+1")
    assert result.code == 1
    assert "allow_eval" in result.err
    assert net.gmp("eval", "liberal", "node.id + '!'").out == "liberal!\n"
    assert net.gmp("eval", "liberal", "-", "--json", stdin="[1, 2]").json == [1, 2]
    result = net.gmp("eval", "liberal", "1/0")
    assert (result.code, "ZeroDivisionError" in result.err) == (1, True)


def test_spawn_starts_what_may_be_spawned_and_says_why_not(net: Net) -> None:
    result = net.gmp("spawn", "worker", "tests.command_services:echo", "others")
    assert result.code == 0
    port = result.out.strip()
    assert port.startswith("worker#")
    with gevent.Timeout(40):
        while port not in net.gmp("groups", "others", "--json").out:
            gevent.sleep(0.1)
    assert net.gmp("send", port, "end").code == 0
    result = net.gmp("spawn", "worker", "tests.command_services:tell")
    assert result.code == 1
    assert "@gmp.spawnable" in result.err
    assert net.gmp("spawn", "worker", "nonsense").code == 1


@pytest.mark.slow
def test_monitor_tells_the_reason_of_a_death(net: Net) -> None:
    port = net.gmp("spawn", "worker", "tests.command_services:echo", "dying").out.strip()
    monitor = net.gmp.start("monitor", port)
    with gevent.Timeout(40):  # a message behind the monitor's barrier would do, but only it knows when it is set
        while not any("cli/" in entry["node_id"] for entry in _connections(net, "worker")):
            gevent.sleep(0.1)
    assert net.gmp("send", port, "fail").code == 0
    out, _ = monitor.communicate(timeout=40)
    assert out.decode() == f"{port} died: die ValueError: told to " + out.decode().partition("told to ")[2]
    assert monitor.returncode == 1
    result = net.gmp("monitor", port)
    assert result.code in (1, 3)


def _connections(net: Net, node_id: str) -> list[dict[str, str]]:
    nodes = {entry["node_id"]: entry for entry in net.gmp("nodes", "--json").json}
    own = [entry for entry in nodes[node_id]["connections"] if entry["node_id"].startswith("cli/")]
    return own[1:]  # without the command that asked


@pytest.mark.slow
def test_monitor_of_a_group_shows_who_comes_and_goes(net: Net) -> None:
    monitor = net.gmp.start("monitor", "@visitors", "--for", "30")
    port = net.gmp("spawn", "worker", "tests.command_services:echo", "visitors").out.strip()
    assert wait_for(monitor, b"visitors", stdout=True) == f"+ @visitors {port}\n"
    assert net.gmp("send", port, "end").code == 0
    assert wait_for(monitor, b"visitors", stdout=True) == f"- @visitors {port}\n"
    assert net.gmp.end(monitor, signal.SIGINT).code == 130


def test_nodes_groups_and_families_are_listed(net: Net, worker_port: str) -> None:
    result = net.gmp("nodes")
    assert result.code == 0
    assert [line.split()[:3] for line in result.out.splitlines()[1:]] == [
        ["liberal", "up", "node"], ["seed", "up", "seed"], ["worker", "up", "node"]
    ]
    assert net.gmp("groups", "--json").json["echo"] == 2
    assert worker_port in net.gmp("groups", "@echo").out
    assert "echo" in net.gmp("family").out
    assert worker_port in net.gmp("family", "echo").out
    assert net.gmp("family", "nothing").code == 3


def test_trace_draws_the_connections_as_tree_dot_and_svg(net: Net) -> None:
    tree = net.gmp("trace").out
    assert tree.splitlines()[0] == "seed (seed)"
    assert {re.sub(r"^[├└│─ ]+", "", line).split()[0] for line in tree.splitlines()} == {"seed", "worker", "liberal"}
    dot = net.gmp("trace", "--dot").out
    assert '"seed" -- "worker"' in dot
    assert net.gmp("trace", "--svg", "-o", "picture.svg").code == 0
    picture = (net.gmp.folder / "picture.svg").read_text()
    assert picture.startswith("<svg")
    assert ">worker</text>" in picture
    told = net.gmp("trace", "--json").json
    assert ["seed", "worker"] in told["connections"]
    assert told["unix"] == (told["connections"] if BY_UNIX else [])


def test_top_shows_figures_once_when_it_is_no_terminal(net: Net) -> None:
    rows = {row["node_id"]: row for row in net.gmp("top", "-i", "0.2", "--json").json["nodes"]}
    assert {row["state"] for row in rows.values()} == {"up"}
    assert rows["seed"]["peers"] >= 2
    assert rows["seed"]["unix"] == (rows["seed"]["peers"] if BY_UNIX else 0)
    assert rows["worker"]["ports"] >= 1
    assert rows["worker"]["sent"] is not None
    assert net.gmp("top", "-i", "0.1").out.splitlines()[0].split()[:2] == ["NODE", "STATE"]


@pytest.mark.slow
def test_a_stopped_node_is_silent_for_top_and_a_fault_for_doctor(net: Net) -> None:
    os.kill(net.worker_pid, signal.SIGSTOP)
    try:
        rows = {row["node_id"]: row for row in net.gmp("top", "-i", "0.1", "-t", "1", "--json").json["nodes"]}
        result = net.gmp("doctor", "-t", "1")
        listed = net.gmp("nodes", "-t", "1")
    finally:
        os.kill(net.worker_pid, signal.SIGCONT)
    assert rows["worker"]["state"] in ("silent", "busy")
    assert rows["seed"]["state"] == "up"
    assert result.code == 1
    assert re.search(r"FAULT node worker does not answer: .* -> ", result.out)
    assert listed.code == 1
    assert "worker does not answer" in listed.err


def test_doctor_finds_nothing_where_nothing_is_wrong(net: Net) -> None:
    result = net.gmp("doctor")
    assert result.code == 0, result.out
    assert "fingerprint" in result.out
    assert f"seed {net.seed} is seed: gmp" in result.out
    assert "all 3 nodes of the network answer" in result.out


@pytest.mark.slow
def test_doctor_names_the_fault_and_its_cure(net: Net) -> None:
    result = net.gmp("doctor", "-s", "127.0.0.1:1", "-s", "name.invalid:4040", "-s", net.seed)
    assert result.code == 1
    faults = [line for line in result.out.splitlines() if line.startswith("FAULT")]
    assert len(faults) == 2
    assert "nobody listens there" in faults[0]
    assert "-> start the seed" in faults[0]
    assert "does not resolve" in faults[1]
    found = net.gmp("doctor", "--json", GMP_SECRET="wrong").json
    assert next(finding["cure"] for finding in found if finding["level"] == "FAULT").startswith("the secrets differ")


@pytest.mark.slow
def test_bench_measures_a_node_of_the_network_and_one_of_its_own(net: Net) -> None:
    for node in (["seed"], []):
        results = net.gmp("bench", *node, "--seconds", "0.2", "--size", "10", "--json").json
        assert results[0]["messages_per_second"] > 0


@pytest.mark.slow
def test_the_shell_completes_subcommands_nodes_and_groups(net: Net) -> None:
    def complete(line: str) -> list[str]:
        words = line.split(" ")
        result = net.gmp(
            _GMP_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1)
        )
        return [entry.partition(",")[2] for entry in result.out.split()]

    assert complete("gmp tr") == ["trace"]
    assert complete("gmp eval lib") == ["liberal"]
    assert complete("gmp call @ec") == ["@echo"]
    for shell in ("bash", "zsh", "fish"):
        assert "_GMP_COMPLETE" in net.gmp("completion", shell).out


STAGES = [("nodes",), ("top", "-i", "0.2"), ("monitor", "worker"), ("doctor",), ("bench", "--seconds", "30")]


def interrupted(net: Net, arguments: tuple[str, ...], delay: float) -> None:
    process = net.gmp.start(*arguments)
    with gevent.Timeout(40):  # until then it is Python itself that starts, and has nothing of ours to ask
        while "greenlet" not in Path(f"/proc/{process.pid}/maps").read_text():
            gevent.sleep(0.002)
    gevent.sleep(delay)
    try:
        os.killpg(process.pid, signal.SIGINT)
    except ProcessLookupError:
        pass  # it was done before
    _, err = process.communicate(timeout=40)
    assert process.returncode in (0, 130, -signal.SIGINT)  # 0: it was done before
    assert "Traceback" not in err.decode()
    assert not processes_of_session(process.pid)


@pytest.mark.parametrize("arguments", STAGES[:2], ids=lambda arguments: arguments[0])
def test_ctrl_c_leaves_no_process_and_no_traceback(net: Net, arguments: tuple[str, ...]) -> None:
    interrupted(net, arguments, 0.2)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("arguments", [*STAGES, ("demo",), ("run",), ("call", "@echo", "quiet")], ids=lambda a: a[0])
def test_ctrl_c_at_every_stage_leaves_no_process_and_no_traceback(net: Net, arguments: tuple[str, ...]) -> None:
    delays = [step * 0.05 for step in range(24)]
    for _ in gevent.pool.Pool(3).imap_unordered(lambda delay: interrupted(net, arguments, delay), delays):
        pass  # three at a time, as most of it is waiting; what one raises is raised here
