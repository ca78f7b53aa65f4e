"""What a caller has of a service: `Remote`, whose attributes are its methods."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent.event

from gmp.errors import GmpError
from gmp.later import later
from gmp.objects import forms
from gmp.objects.calling import Request, Settings, call, call_member, send, until_of, usual_call
from gmp.objects.future import Future
from gmp.objects.retry import Retry
from gmp.outside import clock

if TYPE_CHECKING:
    import inspect

    from gmp.objects import methods as methods_of
else:
    inspect, methods_of = later("inspect"), later("gmp.objects.methods")

NO_ANSWER = 2.0  # seconds for what a prompt asks
_NOT_GIVEN: Any = object()


class Remote:
    """A service, or a group of services, made by `gmp.remote`. Its attributes are methods: calling one calls it there."""

    __slots__ = ("_described", "_settings")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._described: dict[str, Any] | None = None

    def __getattr__(self, name: str) -> RemoteMethod:
        if name.startswith("__"):
            raise AttributeError(name)
        return RemoteMethod(self, self._settings, name)

    def __repr__(self) -> str:
        return f"<remote {self._settings.target.name}>"

    def __dir__(self) -> list[str]:
        try:
            methods = _description(self).get("methods")
        except GmpError:  # a prompt asks, which shows nothing then
            return []
        return sorted(methods) if isinstance(methods, dict) else []


def describe(remote: Remote, timeout: float | None = NO_ANSWER) -> dict[str, Any]:
    """Return what a service tells of itself. *Blocks:* up to `timeout` seconds. *Raises:* `GmpError`."""
    settings = remote._settings
    port_id = settings.target.pick((), None if timeout is None else clock.monotonic() + timeout)
    match settings.core().call(port_id, (forms.DESCRIBE,), timeout):
        case [forms.DESCRIBED, dict(described)]:
            return described
    raise GmpError(f"{port_id} is no service")


def _description(remote: Remote) -> dict[str, Any]:
    if remote._described is None:
        remote._described = describe(remote)
    return remote._described


class RemoteMethod:
    """A method of a service: ``jobs.add(1, b=2)``, and other ways to call it.

    `call` takes a time-out of its own, `send` waits for nothing, `future` waits later, `each` calls all members of a group.
    """

    __slots__ = ("__name__", "_head", "_remote", "_settings")

    def __init__(self, remote: Remote, settings: Settings, name: str) -> None:
        self.__name__ = name
        self._head = forms.DO, name, settings.timeout
        self._remote = remote
        self._settings = settings

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Call it; return its result, or a `RemoteStream`. *Blocks:* until then. *Raises:* what it raised; `GmpError`."""
        settings = self._settings
        if keywords:
            return call(settings, Request(self.__name__, args, keywords, settings.timeout, settings.retry))
        return usual_call(settings, self._head, args)

    def __repr__(self) -> str:
        described = self._remote._described or {}
        known = methods_of.signature_of(described.get("methods", {}).get(self.__name__))
        return f"<remote method {self._settings.target.name} {self.__name__}{known or ''}>"

    def _request(self, args: Any, keywords: Any, timeout: Any, retry: Any = None) -> Request:
        patience = self._settings.timeout if timeout is _NOT_GIVEN else timeout
        return Request(self.__name__, args, keywords, patience, self._settings.retry if retry is None else retry)

    def call(self, *args: Any, timeout: float | None = _NOT_GIVEN, retry: Retry | None = None, **keywords: Any) -> Any:
        """Call it with a time-out in seconds (None: without end), or with `retry`, of this call's own.

        *Blocks:* until its result. *Raises:* what it raised; `GmpError`.
        """
        return call(self._settings, self._request(args, keywords, timeout, retry))

    def send(self, *args: Any, **keywords: Any) -> None:
        """Let it be called, and wait for nothing: neither its result nor what it raises comes back.

        *Raises:* `MessageError`. *Blocks:* as `gmp.send`; until the group has a member.
        """
        send(self._settings, self._request(args, keywords, _NOT_GIVEN))

    def future(self, *args: Any, timeout: float | None = _NOT_GIVEN, **keywords: Any) -> Future:
        """Call it and return at once a `Future`, whose `get` waits for the result. *Blocks:* never."""
        settings, request = self._settings, self._request(args, keywords, timeout)
        return Future(settings.core(), lambda: call(settings, request), waits=False)

    def each(self, *args: Any, timeout: float | None = _NOT_GIVEN, **keywords: Any) -> Iterator[tuple[str, Any]]:
        """Call it at every member of the group, at once; iterate over pairs of member and result, as they come.

        What a member raises stands in place of its result, as do `CallTimeout` and `PortDied`. Calls that are under way when
        the loop is left are given up. *Blocks:* until the next result. *Raises:* `WaitTimeout` when there is no member.
        """
        return _each(self._settings, self._request(args, keywords, timeout))

    @property
    def __signature__(self) -> inspect.Signature:
        found = methods_of.signature_of(self._told())
        if found is None:
            raise AttributeError("__signature__")
        return found

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        told = self._told()
        return str(told.get("doc", "")) if isinstance(told, dict) else ""

    def _told(self) -> Any:
        try:
            methods = _description(self._remote).get("methods")
        except GmpError:  # `help` or a prompt asks, which shows nothing then
            return None
        return methods.get(self.__name__) if isinstance(methods, dict) else None


def _each(settings: Settings, request: Request) -> Iterator[tuple[str, Any]]:
    until = until_of(request.timeout)
    core = settings.core()
    done: deque[tuple[str, Future]] = deque()
    came = gevent.event.Event()
    futures: list[Future] = []

    def has_come(port_id: str, future: Future) -> None:
        done.append((port_id, future))
        came.set()

    try:
        for port_id in settings.target.all(request.timeout):
            future = Future(core, partial(call_member, settings, request, port_id, until), waits=True)
            futures.append(future)
            future.rawlink(partial(has_come, port_id))
        for _ in futures:
            while not done:
                came.clear()
                came.wait()
            port_id, future = done.popleft()
            error = future.exception
            yield port_id, future.get() if error is None else error
    finally:
        for future in futures:
            future.cancel()
