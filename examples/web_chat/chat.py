"""One chat room over many workers and hosts: a Flask application under ``gunicorn -k gevent``, and no broker.

Each worker has a *room*, a port in the group ``chat``. A browser says something by a POST to any worker; that worker
sends the line to every room, and each room passes it to the browsers that are connected to its worker by server-sent
events. A browser whose worker dies connects again by itself, to any other, tells the last line it has seen and gets
what it missed. The browser gives each line a name, so that one that it had to say twice (its worker died before the
answer) is heard once.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator

from flask import Flask, Response, request

import gmp

KEPT = 200  # lines that a room remembers
STILL_HERE = 10.0  # seconds of silence after which a browser gets a comment, so that one that is gone is noticed

app = Flask(__name__, static_folder=None)
group = None
room_port = None


def room(port: gmp.Port, lines: list) -> None:
    """Passes lines to this worker's browsers."""
    history = deque(lines, maxlen=KEPT)
    browsers = set()
    for message in port:
        match message:
            case ("line", line) if all(line["name"] != other["name"] for other in history):
                history.append(line)
                for browser in browsers:
                    gmp.send(browser, "line", line)
            case ("enter", browser, seen):
                browsers.add(browser)
                gmp.monitor(browser, port, "left", browser)
                for line in missed(history, seen):
                    gmp.send(browser, "line", line)
            case ("left", browser, *_):
                browsers.discard(browser)
            case ("pid", reply):
                gmp.send(reply, os.getpid())
            case ("history", reply):
                gmp.send(reply, *history)


def missed(history: deque, seen: str) -> list:
    """What came after the line `seen`; everything when it is not known here."""
    names = [clean(line["name"]) for line in history]
    return list(history)[names.index(seen) + 1 :] if seen in names else list(history)


def start() -> None:
    """Called in each worker once its node is there."""
    global group, room_port
    group = gmp.group("chat")
    lines: tuple = ()
    if gmp.node().settings.seeds:
        gmp.node().wait_up(timeout=10)
    try:
        for other in group.wait(timeout=2):
            lines = gmp.call(other, "history", timeout=2)
            break
    except gmp.GmpError:
        pass  # the first worker of all: there is no history
    room_port = gmp.port(room, list(lines))
    group.join(room_port)


@app.get("/")
def page() -> Response:
    with open(os.path.join(os.path.dirname(__file__), "page.html"), encoding="utf-8") as file:
        return Response(file.read().replace("WORKER", gmp.node().id), mimetype="text/html")


@app.post("/say")
def say() -> tuple[str, int]:
    line = {key: request.form[key][:1000] for key in ("name", "who", "text")}
    group.send("line", line | {"worker": gmp.node().id})
    return "", 204


@app.get("/lines")
def lines() -> Response:
    browser = gmp.port()
    gmp.send(room_port, "enter", browser, request.headers.get("Last-Event-ID", ""))
    return Response(events(browser), mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})


def clean(name: str) -> str:
    """A name that cannot end its line in the stream of events."""
    return "".join(character for character in name if character.isalnum())


def events(browser: gmp.Port) -> Iterator[str]:
    """Server-sent events; ends, and the port with it, when the browser has gone."""
    try:
        yield f"event: worker\ndata: {gmp.node().id}\n\n"
        while True:
            try:
                (line,) = browser.receive("line", timeout=STILL_HERE)
            except gmp.ReceiveTimeout:
                yield ": still here\n\n"
            except gmp.PortDied:
                return  # the worker ends: the browser connects again, to another one
            else:
                yield f"id: {clean(line['name'])}\ndata: {json.dumps(line)}\n\n"
    finally:
        browser.kill()
