"""Services for tests: one whose answers are given beforehand, and one that writes down what it is called with."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import gevent.event

import gmp


class Called(NamedTuple):
    """A call that has come."""

    method: str
    args: tuple[Any, ...]
    keywords: dict[str, Any]


class StubService:
    """A service with the given answers, which keeps every call: ``StubService("stock", take=3, price=lambda item: 2.5)``.

    An answer is a value, an exception to raise, or a function to call, which may be a generator. `calls` are those that
    came, oldest first; `wait(count)` waits for so many. `port` answers; with `name` it joins the group of that name. Usable
    in ``with``, which ends it. `node` is the default node unless given. *Raises:* as `gmp.expose`. *Blocks:* never.

    >>> import gmp
    >>> with StubService("stock of an example", take=3, pay=LookupError("no card")) as stub:
    ...     gmp.remote("stock of an example").take("tea", amount=1)
    ...     stub.calls
    3
    [Called(method='take', args=('tea',), keywords={'amount': 1})]
    """

    def __init__(self, name: str | None = None, *, node: gmp.Node | None = None, **answers: Any) -> None:
        self.calls: list[Called] = []
        self._changed = gevent.event.Event()
        methods = type("Stub", (), {method: staticmethod(self._answering(method, answers[method])) for method in answers})
        declared = {type(answer) for answer in answers.values() if isinstance(answer, Exception)}
        self.port = gmp.expose(methods(), name, methods=answers, concurrency=1000, errors=declared, node=node)

    def _answering(self, method: str, answer: Any) -> Callable[..., Any]:
        def answers(*args: Any, **keywords: Any) -> Any:
            self.calls.append(Called(method, args, keywords))
            self._changed.set()
            if isinstance(answer, BaseException):
                raise answer
            return answer(*args, **keywords) if callable(answer) else answer

        return answers

    def wait(self, count: int = 1, timeout: float = 10.0) -> list[Called]:
        """Wait until `count` calls have come; return all. *Blocks:* up to `timeout` seconds. *Raises:* `gmp.WaitTimeout`."""
        with gevent.Timeout(timeout, gmp.WaitTimeout(f"{len(self.calls)} of {count} calls came within {timeout} s")):
            while len(self.calls) < count:
                self._changed.clear()
                self._changed.wait()
        return self.calls

    def close(self) -> None:
        """End it. Does nothing if it has ended. *Blocks:* never."""
        self.port.kill()

    def __enter__(self) -> StubService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RecordingService:
    """A service in front of an object, which answers as that does, and keeps every call with what came of it.

    `outcomes` has (call, result or exception) for each call that has ended, oldest first. `settings` are those of
    `gmp.expose`. *Raises:* as that. *Blocks:* never.

    >>> import gmp
    >>> class Calculator:
    ...     def half(self, number):
    ...         return number / 2
    >>> with RecordingService(Calculator()) as recording:
    ...     gmp.remote(recording.port).half(3)
    ...     recording.outcomes
    1.5
    [(Called(method='half', args=(3,), keywords={}), 1.5)]
    """

    def __init__(self, thing: Any, name: str | None = None, **settings: Any) -> None:
        self.outcomes: list[tuple[Called, Any]] = []
        methods = {each: getattr(thing, each) for each in dir(thing) if callable(inspect.getattr_static(thing, each))}
        public = {each: method for each, method in methods.items() if not each.startswith("_")}
        recorded = {each: staticmethod(self._recording(each, method)) for each, method in public.items()}
        self.port = gmp.expose(type(type(thing).__name__, (), recorded)(), name, **settings)

    def _recording(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def records(*args: Any, **keywords: Any) -> Any:
            called = Called(name, args, keywords)
            try:
                result = method(*args, **keywords)
            except BaseException as error:
                self.outcomes.append((called, error))
                raise
            self.outcomes.append((called, result))
            return result

        return records

    def close(self) -> None:
        """End it. Does nothing if it has ended. *Blocks:* never."""
        self.port.kill()

    def __enter__(self) -> RecordingService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
