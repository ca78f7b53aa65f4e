"""The dashboard: what it answers, what it refuses, and the picture of a network of processes in real headless Chromium."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.pywsgi import WSGIServer

import gmp
from gmp.cli.commands.dashboard import is_loopback, shown
from gmp.services.dashboard import Dashboard, watcher
from gmp.services.dashboard.view import OVERDUE, NodeView, merge_links, plain
from gmp.services.logline import parse_line
from gmp.testing import FaultProxy

from .addresses import BY_UNIX
from .browser import Browser, needs_chromium
from .conftest import eventually
from .perl_node import PerlNode
from .processes import Processes

MakeNode = Callable[..., gmp.Node]
TOKEN = "a token of this test"


class Shop:
    """A service."""

    def sell(self) -> str:
        return "sold"


class Answer:
    """What the application answered to one request."""

    def __init__(self, app: Dashboard, path: str = "/", query: str = "", method: str = "GET", **headers: str) -> None:
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "SCRIPT_NAME": "/net", **headers}
        self.body = app(environ, self._start)

    def _start(self, status: str, headers: list[tuple[str, str]]) -> None:
        self.status = int(status.split()[0])
        self.headers = dict(headers)

    @property
    def text(self) -> str:
        return b"".join(self.body).decode()


@pytest.fixture
def app(make_node: MakeNode) -> Iterator[Dashboard]:
    dashboard = Dashboard(node=make_node("seed"), interval=0.1)
    yield dashboard
    dashboard.close()


def events(app: Dashboard) -> Iterator[tuple[str, Any]]:
    for chunk in Answer(app, "/events").body:
        name, data = chunk.decode().rstrip("\n").split("\n")
        yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def until(app: Dashboard, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    with gevent.Timeout(20):
        return next(data for name, data in events(app) if name == "snapshot" and condition(data))


def test_the_pages_run_nothing_but_their_own_script_and_load_nothing_from_elsewhere(app: Dashboard) -> None:
    for path, kind in (("/", "text/html"), ("/app.js", "text/javascript"), ("/style.css", "text/css")):
        answer = Answer(app, path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text
        assert "https:" not in text
        assert "innerHTML" not in text
    assert Answer(app, "/nothing").status == 404
    redirect = Answer(app, "")
    assert (redirect.status, redirect.headers["Location"]) == (303, "/net/")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_is_read_only(app: Dashboard, method: str) -> None:
    assert Answer(app, "/", method=method).status == 405


@pytest.mark.parametrize("path", ["/", "/events", "/node", "/app.js", "/metrics", ""])
def test_without_the_token_nothing_is_shown(make_node: MakeNode, path: str) -> None:
    app = Dashboard(token=TOKEN, node=make_node("seed"))
    assert Answer(app, path).status == 401
    assert Answer(app, path, query="token=wrong").status == 401
    assert Answer(app, path, HTTP_AUTHORIZATION="Bearer wrong").status == 401
    assert Answer(app, path, HTTP_COOKIE="gmp_dashboard=wrong; [").status == 401
    assert app._watcher is None


def test_the_token_is_taken_from_the_address_once_and_then_from_the_cookie(make_node: MakeNode) -> None:
    app = Dashboard(token=TOKEN, node=make_node("seed"))
    first = Answer(app, query=f"token={TOKEN.replace(' ', '+')}")
    assert (first.status, first.headers["Location"]) == (303, "/net/")
    cookie = first.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert Answer(app, HTTP_COOKIE=cookie.partition(";")[0]).status == 200
    assert Answer(app, HTTP_AUTHORIZATION=f"Bearer {TOKEN}").status == 200


def test_an_empty_token_is_refused() -> None:
    with pytest.raises(gmp.ConfigError, match="token"):
        Dashboard(token="")


def test_the_stream_tells_of_nodes_connections_groups_and_what_was(app: Dashboard, make_node: MakeNode) -> None:
    seed = app.watcher.node
    other = make_node("<b>other".replace("<b>", "b/"), seeds=seed.binds)
    port = other.port(lambda port: port.receive("stop"))
    other.group("<i>workers</i>").join(port, {"speed": 1.5, "key": (1, 2)})
    snapshot = until(app, lambda data: len(data["nodes"]) == 2 and data["links"] and data["families"])
    nodes = {node["id"]: node for node in snapshot["nodes"]}
    assert nodes["seed"]["seed"] is True
    assert nodes["b/other"]["state"] == "up"
    assert nodes["b/other"]["master"] == "seed"
    assert {snapshot["links"][0]["a"], snapshot["links"][0]["b"]} == {"seed", "b/other"}
    assert snapshot["links"][0]["unix"] is BY_UNIX
    family = until(app, lambda data: bool(data["families"]["<i>workers</i>"]["items"]))["families"]["<i>workers</i>"]
    assert (family["group"], family["entries"]) == (True, 1)
    assert family["items"][0][0] == port.id
    name, history = next(events(app))
    assert name == "history"
    assert {"time", "messages", "bytes", "queue", "lag"} <= set(history["points"][0])


def test_the_details_of_a_node_are_told_and_those_of_a_stranger_are_not(app: Dashboard) -> None:
    until(app, lambda data: any(node["state"] == "up" for node in data["nodes"]))
    told = json.loads(Answer(app, "/node", query="id=seed").text)
    assert told["info"]["pid"] == os.getpid()
    assert told["stats"]["ports"] >= 1
    assert Answer(app, "/node", query="id=stranger").status == 404
    assert Answer(app, "/node").status == 404


def test_the_stream_ends_with_the_node(make_node: MakeNode) -> None:
    node = make_node("seed")
    app = Dashboard(node=node, interval=0.1)
    stream = events(app)
    next(stream)
    node.close()
    with gevent.Timeout(20):
        list(stream)


def test_a_node_is_busy_when_its_answer_is_overdue_and_lost_when_its_connection_ends() -> None:
    view = NodeView("n", 0.0)
    assert view.state(0.0) == "asked"
    view.told({"ports": 1}, 1.0)
    assert view.state(1.0 + OVERDUE) == "up"
    assert view.state(1.1 + OVERDUE) == "busy"
    view.lost(("transport_error", "n", "reset"), 9.0)
    assert view.state(9.0) == "lost"
    assert view.summary(9.0)["reason"] == "transport_error, n, reset"
    view.told({"ports": 1}, 10.0)
    assert view.state(10.0) == "up"
    view.lost(("leaving", "n"), 11.0)
    assert view.state(11.0) == "left"
    view.lost(("transport_error", "n", "gone"), 12.0)  # what a late answer says
    assert view.state(12.0) == "left"
    view.back(13.0)
    assert view.state(13.0) == "up"


def test_a_node_that_leaves_in_order_is_no_loss_and_is_soon_gone(
    app: Dashboard, make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "FORGET_LEFT", 0.5)
    seed = app.watcher.node
    other = make_node("other", seeds=seed.binds)
    until(app, lambda data: states(data).get("other") == "up")
    other.close()
    seen = set()

    def gone(data: dict[str, Any]) -> bool:
        seen.add(states(data).get("other"))
        return "other" not in states(data)

    until(app, gone)
    assert seen <= {"up", "left", None}
    again = make_node("other", seeds=seed.binds)  # under the same name
    until(app, lambda data: states(data).get("other") == "up")
    again.close()
    at_once = make_node("other", seeds=seed.binds)  # before it is forgotten
    until(app, lambda data: states(data).get("other") == "up")
    assert at_once.started


def test_a_perl_node_is_shown_as_one_and_asked_for_nothing(app: Dashboard) -> None:
    with PerlNode("perl", seeds=app.watcher.node.binds) as perl:
        until(app, lambda data: states(data).get("perl") == "no-gmp")
        assert not [name for _, name in perl.requests_seen() if name.startswith("gmp.")]
        perl.close()
        until(app, lambda data: states(data).get("perl") == "lost")


def states(data: dict[str, Any]) -> dict[str, str]:
    return {node["id"]: node["state"] for node in data["nodes"]}


HUGE = 10**5000  # Python refuses to write it in decimals
LARGE = 10**4000  # as large as a value in the directory may be, nearly
ODD: list[Any] = [
    (), (HUGE,), ({HUGE: HUGE, (1, HUGE): 1},), ("text" * 100_000,), ([1, [2]],), (None,), (float("nan"),),
    ({"connections": HUGE, "binds": 7, "master": [HUGE], "incarnation": HUGE},),
    ({"connections": [{"node_id": "x", "relay": HUGE, "tls": {HUGE}}], "peers": {"x": {"sent_bytes": HUGE, "lag": "x"}}},),
    ({"peers": {"x": {"sent_messages": HUGE, "queued_bytes": -HUGE}}, "loop_lag": HUGE, "ports": HUGE, "waiting": "many"},),
    ({"f": 1, 7: {"entries": HUGE}, b"b": None, "": {}, "'l": {}, "g" * 10_000: {}},),
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=[str(number) for number in range(len(ODD))])
def test_a_peers_odd_answers_end_neither_the_watcher_nor_a_request_for_others(
    app: Dashboard, make_node: MakeNode, monkeypatch: pytest.MonkeyPatch, odd: tuple[Any, ...]
) -> None:
    """A seed that answers so, and puts odd things into the directory too."""
    seed = app.watcher.node
    other = make_node("other", seeds=seed.binds)
    for name in ("gmp.info", "gmp.stats", "gmp.families", "gmp.ports"):
        other._core.requests._table[name] = lambda _, reply: other._core.send_soon(reply, *odd)
    other._core.mesh.backbone.set("'l", "a;b", LARGE)
    other._core.mesh.backbone.set("'l", "x" * 300, None)
    other.family("odd").set("key", {"value": LARGE})
    other.wait_up("seed", timeout=20)
    until(app, lambda data: states(data).get("seed") == "up" and "other" in states(data) and "odd" in data["families"])
    tick = app.watcher.tick
    assert app.watcher.wait(tick + 2, 20)  # it has asked since, and been answered
    app.watcher._families = {}
    app.watcher._views["other"].info["seed"] = True  # it is asked for the families
    app.watcher._views["seed"].info["seed"] = False
    app.watcher._ask_families()
    for node_id in ("seed", "other"):
        detail = json.loads(Answer(app, "/node", query=f"id={node_id}").text)
        assert detail["id"] == node_id
        assert len(json.dumps(detail)) < 1_000_000
    assert not app.watcher.closed
    until(app, lambda data: states(data).get("seed") == "up")
    assert set(states(app.watcher.snapshot())) == {"seed", "other"}


def test_a_line_of_odd_parts_is_none() -> None:
    assert parse_line("n", (1.0, HUGE, 5, "text")) is None
    assert parse_line("n", (1.0, "logger", 5, HUGE)) is None
    assert parse_line("n", (HUGE, "logger", HUGE, "text")) is None


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4080", "127.0.0.1.evil.example", "localhost.evil:8", "[x]"])
def test_a_page_whose_name_was_made_to_lead_here_is_refused(app: Dashboard, host: str) -> None:
    for path in ("/", "/events", "/node", "/metrics", ""):
        assert Answer(app, path, HTTP_HOST=host).status == 421


@pytest.mark.parametrize("host", ["LOCALHOST", "127.0.0.1:80", "[::1]:40", "[::1]", "10.1.2.3", "net.example:1"])
def test_own_names_and_addresses_are_let_in(make_node: MakeNode, host: str) -> None:
    app = Dashboard(node=make_node("seed"), hosts=["Net.example"])
    assert Answer(app, HTTP_HOST=host).status == 200
    assert Answer(Dashboard(node=app.watcher.node, token=TOKEN), HTTP_HOST="any.example").status == 401
    app.close()


def test_rates_are_per_second_and_begin_anew_with_a_restart() -> None:
    view = NodeView("n", 0.0)
    view.info = {"incarnation": "a", "connections": [{"node_id": "m"}]}
    view.told({"peers": {"m": {"sent_messages": 10, "received_messages": 5, "sent_bytes": 100, "received_bytes": 0}}}, 0.0)
    view.told({"peers": {"m": {"sent_messages": 30, "received_messages": 5, "sent_bytes": 500, "received_bytes": 0}}}, 2.0)
    assert view.summary(2.0)["messages"] == 10.0
    assert merge_links([view])[0]["bytes"] == 200.0
    service = {"name": "jobs", "port": "n#1"}
    view.told({"services": [{**service, "calls": 10}]}, 3.0)
    view.told({"services": [{**service, "calls": 30}]}, 5.0)
    assert view.call_rates == {"n#1": 10.0}
    view.info = {"incarnation": "b"}
    view.rates = {}
    view.told({"peers": {"m": {"sent_messages": 900}}}, 6.0)
    assert view.summary(6.0)["messages"] == 0


def test_durations_are_those_of_the_last_minute() -> None:
    view = NodeView("n", 0.0)
    view.info = {"incarnation": "a"}

    def told(now: float, *buckets: int, port: str = "n#1") -> Any:
        methods = {"add": {"buckets": buckets}, "get": {"buckets": [0]}, "odd": {"buckets": "?"}, "none": 7}
        view.told({"services": [{"port": port, "methods": methods}, {"port": "n#2", "methods": 3}, None]}, now)
        found = view.durations[port]
        return found["median"] and (found["median"], found["p99"])

    assert told(0.0, 0, 0, 1000) is None, "of before anybody looked"
    assert told(1.0, 0, 0, 1000, 0, 10) == (pytest.approx(12e-6), pytest.approx(15.92e-6))
    for second in range(2, 60):
        assert told(second, 0, 0, 1000, 0, 10) == (pytest.approx(12e-6), pytest.approx(15.92e-6))
    assert told(71.0, 0, 0, 1000, 0, 10) is None, "they are more than a minute ago"
    assert told(72.0, 0, 0, 1001, 0, 10)[0] == pytest.approx(3e-6)
    assert told(73.0, 0, 0, 7, port="n#3")[0] == pytest.approx(3e-6), "a service that has just begun"
    view.info = {"incarnation": "b"}
    assert told(74.0, 0, 0, 2000, 0, 20) is None, "another life"
    view.lost((), 75.0)
    assert view.durations == {}


@pytest.mark.parametrize("nonsense", [None, 7, "text", [1], {"peers": 7}, {"peers": {"m": None}}, {"ports": float("inf")}])
def test_whatever_a_node_says_is_shown_or_left_out_but_breaks_nothing(nonsense: Any) -> None:
    view = NodeView("n", 0.0)
    view.info = {"connections": [nonsense, {"node_id": nonsense}], "binds": nonsense}
    view.told(nonsense if isinstance(nonsense, dict) else {}, 1.0)
    json.dumps(plain([view.summary(2.0), merge_links([view]), view.info]), allow_nan=False)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("*", False), ("10.0.0.1", False)],
)
def test_what_only_this_machine_reaches_is_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    assert shown("::1", 80) == "[::1]:80"


@pytest.mark.slow
@pytest.mark.timeout(200)
@needs_chromium
def test_the_picture_shows_within_seconds_what_happens_to_ten_processes(make_node: MakeNode, processes: Processes) -> None:
    seed = make_node("seed", reached_at=["*"])
    proxy = FaultProxy(seed.binds[0])  # the only way to the private node
    names = [*(f"node-{number}" for number in range(9)), "private"]
    children = {name: processes.start(name, *([proxy.address] if name == "private" else seed.binds)) for name in names}
    seed.group("children").wait(10, timeout=60)
    seed.family("<img src=x onerror=alert(1)>").set("<script>alert(2)</script>", "<b>bold</b>")
    app = Dashboard(node=seed)
    server = WSGIServer(("127.0.0.1", 0), app, log=None)
    server.start()
    browser = Browser()
    try:
        browser.open(f"http://127.0.0.1:{server.server_port}/")

        def states() -> dict[str, str]:
            return dict(
                browser.script(
                    "return Object.fromEntries([...document.querySelectorAll('.node')]"
                    ".map(e => [e.dataset.id, e.classList[1]]))"
                )
            )

        eventually(lambda: states() == dict.fromkeys(["seed", *names], "up"), timeout=40)
        children["node-1"].kill(signal.SIGKILL)
        eventually(lambda: states()["node-1"] == "lost")
        children["node-2"].kill(signal.SIGSTOP)
        eventually(lambda: states()["node-2"] == "busy")
        seed.spawn("node-3", "tests.child:compute", 8.0)
        eventually(lambda: states()["node-3"] == "busy")
        eventually(lambda: states()["node-3"] == "up", timeout=40)
        proxy.refuse()
        proxy.reset()
        eventually(lambda: states()["private"] == "lost")
        proxy.heal()
        eventually(lambda: states()["private"] == "up", timeout=60)
        children["node-2"].kill(signal.SIGCONT)
        eventually(lambda: states()["node-2"] == "up", timeout=40)

        browser.script("[...document.querySelectorAll('.node')].find(e => e.dataset.id == 'node-4')"
                       ".dispatchEvent(new Event('click'))")  # fmt: skip
        eventually(lambda: str(children["node-4"].pid) in text_of(browser, "detail"))
        eventually(lambda: "<img src=x" in text_of(browser, "family-list"))
        assert browser.script("return document.querySelectorAll('img, #family-list script, b b').length") == 0
        gmp.expose(Shop(), "shop", node=seed)
        shop = gmp.remote("shop", node=seed)
        browser.script("[...document.querySelectorAll('.node')].find(e => e.dataset.id == 'seed')"
                       ".dispatchEvent(new Event('click'))")  # fmt: skip

        def shop_is_told() -> bool:
            assert shop.sell() == "sold"
            row = browser.script(
                "return [...document.querySelectorAll('#detail tr')]"
                ".map(row => [...row.cells].map(cell => cell.textContent))"
                ".find(row => row[0] == 'shop')"
            )
            return bool(row) and float(row[1]) > 0 and all(re.fullmatch(r"[\d.]+ (µs|ms)", each) for each in row[2:4])

        eventually(shop_is_told)
        ways = browser.script(
            "return Object.fromEntries([...document.querySelectorAll('#detail tr')].map(row => [...row.cells]"
            ".slice(0, 2).map(cell => cell.textContent)))"
        )
        assert (ways["node-4"], ways["private"]) == ("Unix" if BY_UNIX else "TCP", "TCP")  # behind the proxy
        assert not browser.complaints()
    finally:
        browser.close()
        app.close()
        server.stop(timeout=1)
        proxy.close()


def text_of(browser: Browser, place: str) -> str:
    return str(browser.script(f"return document.getElementById('{place}').textContent"))
