"""The WSGI application: a page, its style and script, a stream of server-sent events, and the details of one node.

Read-only: nothing but GET and HEAD is answered. With a token, each request must carry it: as ``Authorization: Bearer``, in a
cookie, or once as ``?token=``, which sets the cookie and is taken out of the address. Without one the request must name a
host that a stranger's page cannot have: a page whose name was made to lead here (DNS rebinding) would be let in by the
browser, but it asks under its own name. The pages come with a policy that lets the browser run nothing but this script, and
the script shows whatever a node said as text.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Callable, Iterable, Iterator
from http.cookies import CookieError, SimpleCookie
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import gmp
from gmp.services.dashboard.view import plain
from gmp.services.dashboard.watcher import Watcher, line_of

try:
    from gmp.services.metrics import application
except ImportError:
    application = None  # type: ignore[assignment]  # the extra is not there: all but /metrics works

COOKIE = "gmp_dashboard"
KEEP_ALIVE = 15.0  # seconds of silence after which a comment is sent, so that a browser that is gone is noticed
PAGES = {"": ("page.html", "text/html"), "app.js": ("app.js", "text/javascript"), "style.css": ("style.css", "text/css")}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'"
HEADERS = [
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]
StartResponse = Callable[..., Any]
Environ = dict[str, Any]


class Dashboard:
    """A WSGI application that shows the network; it mounts in any gevent web app, at any path that ends in ``/``.

    `token` must accompany each request (None: no token, for servers that only loopback reaches, or that check for
    themselves who asks). `hosts` are the names under which it is reached without a token, beside ``localhost`` and numeric
    addresses. `node` is the default node unless given. `interval` is the time between two looks at each node, in seconds.
    The watching begins with the first request. *Blocks:* never; a request for a node's details until that node has answered.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        hosts: Iterable[str] = (),
        node: gmp.Node | None = None,
        interval: float = 1.0,
    ) -> None:
        if token is not None and not (isinstance(token, str) and token):
            raise gmp.ConfigError("token: expected a text that is not empty, or None")
        self._token = token
        self._hosts = frozenset(host.lower() for host in ("localhost", *hosts))
        self._node = node
        self._interval = interval
        self._watcher: Watcher | None = None

    @property
    def watcher(self) -> Watcher:
        """What watches the network; made when it is first asked for, and anew when the node was replaced."""
        if self._watcher is None or self._watcher.closed:
            self._watcher = Watcher(self._node or gmp.node(), interval=self._interval)
        return self._watcher

    def close(self) -> None:
        """Watch no more. Idempotent."""
        if self._watcher is not None:
            self._watcher.close()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            allow = [("Allow", "GET, HEAD")]
            return _answer(start_response, "405 Method Not Allowed", "text/plain", b"only GET and HEAD\n", allow)
        query = parse_qs(environ.get("QUERY_STRING", ""))
        if self._token is not None:
            if "token" in query and self._is_token(query["token"][0]):
                return self._enter(environ, start_response)
            if not self._may_enter(environ):
                text = b"a token is needed: the address that the dashboard was started with has it\n"
                return _answer(start_response, "401 Unauthorized", "text/plain", text)
        elif not self._is_own_host(environ.get("HTTP_HOST", "")):
            text = b"this is not the host's name: give it to the dashboard as one of its hosts, or a token\n"
            return _answer(start_response, "421 Misdirected Request", "text/plain", text)
        path = environ.get("PATH_INFO", "")
        if path == "":
            return _redirect(environ, start_response)
        return self._route(path.removeprefix("/"), query, environ, start_response)

    def _route(
        self, path: str, query: dict[str, list[str]], environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        if path in PAGES:
            name, kind = PAGES[path]
            data = resources.files("gmp.services.dashboard").joinpath("pages", name).read_bytes()
            return _answer(start_response, "200 OK", kind, data)
        if path == "events":
            start_response("200 OK", [("Content-Type", "text/event-stream"), ("X-Accel-Buffering", "no"), *HEADERS])
            return [] if environ["REQUEST_METHOD"] == "HEAD" else self._events()
        if path == "metrics":
            return self._metrics(environ, start_response)
        if path == "node":
            detail = self.watcher.detail(query.get("id", [""])[0])
            if detail is not None:
                return _answer(start_response, "200 OK", "application/json", _json(detail))
        return _answer(start_response, "404 Not Found", "text/plain", b"there is no such page\n")

    def _metrics(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if application is None:
            text = b"metrics need prometheus_client: pip install 'gevent-mp[metrics]'\n"
            return _answer(start_response, "404 Not Found", "text/plain", text)
        answered: Iterable[bytes] = application(self.watcher.node)(environ, start_response)
        return answered

    def _events(self) -> Iterator[bytes]:
        """First what was, then each second what is; ends with the node."""
        watcher = self.watcher
        yield _event("history", {"points": list(watcher.history)})
        tick, seen = -1, 0
        while True:
            lines = [line_of(number, line) for number, line in watcher.lines if number > seen]
            seen = lines[-1]["number"] if lines else seen
            tick = watcher.tick
            yield _event("snapshot", {**watcher.snapshot(), "lines": lines})
            while not watcher.wait(tick, KEEP_ALIVE):
                if watcher.closed:
                    return
                yield b": still here\n\n"

    # ---- who may see it

    def _is_own_host(self, host: str) -> bool:
        """Whether a request under this name, with or without a port, is no stranger's; what is no browser may have none."""
        name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
        if not host or name.lower().rstrip(".") in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), (self._token or "").encode())

    def _may_enter(self, environ: Environ) -> bool:
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(given.strip()):
            return True
        try:
            cookie = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and self._is_token(unquote(cookie.value))

    def _enter(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        secure = "; Secure" if environ.get("wsgi.url_scheme") == "https" else ""
        cookie = f"{COOKIE}={quote(self._token or '')}; HttpOnly; SameSite=Strict; Path=/{secure}"
        return _redirect(environ, start_response, [("Set-Cookie", cookie)])


def _redirect(
    environ: Environ, start_response: StartResponse, headers: list[tuple[str, str]] | None = None
) -> Iterable[bytes]:
    """To the page itself, without a query."""
    where = quote(environ.get("SCRIPT_NAME", "")) + "/"
    return _answer(start_response, "303 See Other", "text/plain", b"", [("Location", where), *(headers or [])])


def _answer(
    start_response: StartResponse, status: str, kind: str, data: bytes, headers: list[tuple[str, str]] | None = None
) -> Iterable[bytes]:
    charset = "" if kind == "application/json" else "; charset=utf-8"
    length = ("Content-Length", str(len(data)))
    start_response(status, [("Content-Type", kind + charset), length, *HEADERS, *(headers or [])])
    return [data]


def _json(value: Any) -> bytes:
    return json.dumps(plain(value), separators=(",", ":"), allow_nan=False).encode()


def _event(name: str, value: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _json(value))
