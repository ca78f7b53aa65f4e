"""Calls of methods, at the side of the caller: one message there, one back, and a ``cancel`` if the caller goes away first.

A call is sent once. It is sent to another member of the group only if the first one has said that it did not begin it, or
was not there: so it runs at most once, unless its caller asks for more by `Retry`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import gevent

from gmp.errors import CallRefused, CallTimeout, ConfigError, GmpError, MessageError, PortDied
from gmp.ids import split_port_id
from gmp.later import later
from gmp.objects import forms
from gmp.objects.context import NOBODY, Current, current, left
from gmp.objects.faults import Declared, raised, refusal
from gmp.objects.members import Target
from gmp.objects.reader import RemoteStream
from gmp.objects.retry import Retry
from gmp.objects.source import PLAIN, Source, any_iterator, is_iterator
from gmp.outside import clock
from gmp.showing import show
from gmp.wire.requests import KEY

if TYPE_CHECKING:
    from gmp.kernel.core import Core
    from gmp.objects import typed
else:
    typed = later("gmp.objects.typed")

MOST_KEYS = 1000
_LONG = 1e9  # seconds: from there on nobody asks for milliseconds
_NEVER_SENT = (MessageError, ConfigError)
_GONE = "gone"  # the kind of a port that was not there
_ELSEWHERE = (forms.LEAVING, _GONE)  # after these another member is called
_PASSING = (forms.LEAVING, "busy")  # refusals after which a retry makes sense


class Settings(NamedTuple):
    """What all calls of one remote object share."""

    core: Callable[[], Core]
    target: Target
    timeout: float | None
    errors: Declared
    retry: Retry | None
    window: int
    interface: typed.Interface | None
    keys: dict[str, str]  #: of the services that need one, and empty for those of which it is known that they do not
    short: set[str]  #: the services that are known to read the short form of calls
    usual: bool  #: True if there is neither `retry` nor `interface`, and time for a call
    one: str | None  #: the port that `target` stands for, if it is no group


Head = tuple[str, str, float | None]  # of the short form of a call: its tag, the method, and the timeout


class Request:
    """A call that is to be made."""

    __slots__ = ("args", "goes_up", "keywords", "method", "retry", "timeout")

    def __init__(
        self, method: str, args: tuple[Any, ...], keywords: dict[str, Any], timeout: float | None, retry: Retry | None
    ) -> None:
        self.method = method
        self.args = args
        self.keywords = keywords
        self.timeout = timeout  #: seconds, for all of it
        self.retry = retry
        self.goes_up = any_iterator(args, keywords)  #: True if there are iterators among them, which can be taken once


def usual_call(settings: Settings, head: Head, args: tuple[Any, ...]) -> Any:
    """Do as `call`, in one step where nothing but positional arguments that are no iterators has to go along, and nothing
    goes wrong: no retry, types or key, and no other call that waits for this one."""
    _, method, timeout = head
    port_id = None
    if settings.usual and PLAIN.issuperset(map(type, args)) and current() is NOBODY:
        port_id = settings.one or settings.target.at_once()
    if port_id not in settings.short or (settings.keys and settings.keys.get(port_id)):
        return call(settings, Request(method, args, {}, timeout, settings.retry))
    core = settings.core()
    until = None if timeout is None else clock.monotonic() + timeout
    name = core.ports.new_reply_name()
    try:
        reply = core.calls.call(port_id, head + args, timeout, name)
    except BaseException as error:
        refused = _not_replied(core, port_id, name, "", error)
        if refused is None:
            raise
    else:
        if len(reply) == 2 and reply[0] == forms.RETURN:
            return reply[1]
        try:
            return _reply(settings, Request(method, args, {}, timeout, None), port_id, reply)
        except NotBegun as why:
            refused = why
    elsewhere = refused.kind in _ELSEWHERE and settings.target.others({port_id})
    if refused.kind != forms.KEY and not elsewhere:
        raise refused.error from None
    avoid = {port_id} if elsewhere else set()
    return _call_somewhere(settings, Request(method, args, {}, timeout, None), until, avoid)


def call(settings: Settings, request: Request) -> Any:
    """Make a call; return its result. *Blocks:* until then. *Raises:* what the method raised, and `GmpError`."""
    until = until_of(request.timeout)
    if request.retry is None:
        return _call_somewhere(settings, request, until, set())
    if request.goes_up:
        raise GmpError(f"{request.method}: an iterator goes up once, so the call cannot be retried")
    avoid: set[str] = set()
    number = 1
    while True:
        try:
            return _call_somewhere(settings, request, until, avoid)
        except request.retry.on as error:
            number += 1
            pause = request.retry.pause_before(number)
            if number > request.retry.times or (until is not None and clock.monotonic() + pause >= until):
                raise
            if isinstance(error, CallRefused) and error.kind not in _PASSING:
                raise
            gevent.sleep(pause)


def _call_somewhere(settings: Settings, request: Request, until: float | None, avoid: set[str]) -> Any:
    """Call one member, or the next one if that has not begun the call; put those that have failed into `avoid`."""
    target = settings.target
    while True:
        port_id = target.pick(avoid, until)
        try:
            return _call_with_key(settings, request, port_id, until)
        except NotBegun as refused:
            avoid.add(port_id)
            elsewhere = refused.kind in _ELSEWHERE and target.others(avoid) and not request.goes_up
            if not elsewhere:
                raise refused.error from None
        except PortDied:
            avoid.add(port_id)
            raise


class NotBegun(Exception):
    """It is certain that the method did not run, as the service, or its node, has said so; `error` is what the caller gets.

    What a method raises is never taken for this, although it may be a `CallRefused` of a call that it has made itself.
    """

    def __init__(self, error: GmpError) -> None:
        super().__init__(error)
        self.error = error
        self.kind = error.kind if isinstance(error, CallRefused) else _GONE if isinstance(error, PortDied) else ""


def call_member(settings: Settings, request: Request, port_id: str, until: float | None) -> Any:
    """Call that port, and no other."""
    try:
        return _call_with_key(settings, request, port_id, until)
    except NotBegun as refused:
        raise refused.error from None


def _call_with_key(settings: Settings, request: Request, port_id: str, until: float | None) -> Any:
    """Call that port, once; if it needs a key, get that first. *Raises:* `NotBegun`, too."""
    if port_id not in settings.keys:
        if not request.goes_up:
            try:
                return _call_port(settings, request, port_id, until)
            except NotBegun as refused:
                if refused.kind != forms.KEY:
                    raise
        _get_key(settings, port_id, left(until))
    try:
        return _call_port(settings, request, port_id, until)
    except NotBegun as refused:
        if refused.kind != forms.KEY or request.goes_up:
            raise
    # race: its node has lost this one meanwhile, and forgotten the key
    _get_key(settings, port_id, left(until))
    return _call_port(settings, request, port_id, until)


def _get_key(settings: Settings, port_id: str, timeout: float | None) -> None:
    """Ask the node of a service for the key that calls need. *Raises:* `NotAllowed`."""
    node_id, name = split_port_id(port_id)
    try:
        reply = settings.core().call(node_id, (KEY, name), timeout)
    except MessageError:
        reply = (forms.KEY, "")  # a Perl node, which has no keys
    match reply:
        case [forms.KEY, str(key)]:
            if len(settings.keys) >= MOST_KEYS:
                settings.keys.clear()  # most of them are of services that have ended
            settings.keys[port_id] = key
        case [forms.REFUSED, *parts]:
            raise refusal(tuple(parts), port_id)
        case _:
            raise GmpError(f"node {node_id} gave no key of {port_id}: it replied {show(reply, 80)}")


def _call_port(settings: Settings, request: Request, port_id: str, until: float | None) -> Any:
    core = settings.core()
    timeout = None if until is None else _milliseconds(until - clock.monotonic())
    if timeout is not None and timeout <= 0:
        raise CallTimeout(f"no time is left to call {request.method} of {port_id}")
    options = _options(request, timeout)
    key = settings.keys.get(port_id)
    if key:
        options[forms.KEY] = key
    if request.goes_up or settings.interface is not None:
        return _call_with_more(core, settings, request, port_id, options, timeout)
    message = (forms.CALL, request.method, [*request.args], request.keywords or None, options or None)
    reply = _ask(core, port_id, message, timeout)
    if port_id not in settings.short:
        _note_form(core, settings, port_id)
    return _reply(settings, request, port_id, reply)


def _note_form(core: Core, settings: Settings, port_id: str) -> None:
    """From now on use the short form, if that is the service of a gmp node: services in Perl may not know it."""
    node_id, _ = split_port_id(port_id)
    peer = core.network.peers.get(node_id)
    if node_id == core.id or (peer is not None and peer.admits(KEY)):
        if len(settings.short) >= MOST_KEYS:
            settings.short.clear()  # as `keys`
        settings.short.add(port_id)


def _call_with_more(
    core: Core, settings: Settings, request: Request, port_id: str, options: dict[str, Any], timeout: float | None
) -> Any:
    """Call it with arguments that are made plain by their types, or streams."""
    types = None if settings.interface is None else settings.interface.of(request.method)
    if types is not None:
        request = _plain(request, types)
    args, keywords, sources = _with_sources(core, settings, request, options)
    result = None
    try:
        reply = _ask(core, port_id, (forms.CALL, request.method, args, keywords, options), timeout)
        result = _reply(settings, request, port_id, reply)
        if types is not None and not isinstance(result, RemoteStream):
            result = types.result(result)
        if isinstance(result, RemoteStream):
            result.keep(sources, None if types is None else types.item)
        return result
    finally:
        if not isinstance(result, RemoteStream):
            for source in sources:
                source.stop()


def _plain(request: Request, types: typed.Types) -> Request:
    """Return the request with plain data for its arguments."""
    args = tuple(map(types.plain, request.args))
    keywords = {name: types.plain(value) for name, value in request.keywords.items()}
    return Request(request.method, args, keywords, request.timeout, request.retry)


def _ask(core: Core, port_id: str, message: tuple[Any, ...], timeout: float | None) -> tuple[Any, ...]:
    name = core.ports.new_reply_name()
    try:
        return core.call(port_id, message, timeout, name)
    except BaseException as error:
        refused = _not_replied(core, port_id, name, (message[-1] or {}).get(forms.KEY, ""), error)
        if refused is None:
            raise
        raise refused from None


def _not_replied(core: Core, port_id: str, name: str, key: str, error: BaseException) -> NotBegun | None:
    """Cancel the call whose reply port has that name, if need be; return why it is certain that it was not begun, if so."""
    if isinstance(error, PortDied):  # a service whose caller is lost sees that by itself
        # a node that leaves tells callers whose call has begun before it kills the port
        return NotBegun(error) if error.reason[:1] in (("no_such_port",), ("leaving",)) else None
    if not isinstance(error, _NEVER_SENT):  # also a kill of this greenlet, or a `gevent.Timeout`
        with contextlib.suppress(GmpError):  # this node may be closed
            call_id = f"{core.ports.node_id}#{name}"  # the reply port's, as the call has given no other
            core.send_soon(port_id, forms.CANCEL, call_id, *([key] if key else []))
    return None


def _reply(settings: Settings, request: Request, port_id: str, reply: tuple[Any, ...]) -> Any:
    match reply:
        case [forms.RETURN, value]:
            return value
        case [forms.RAISE, *parts]:
            raise raised(tuple(parts), settings.errors, port_id, request.method)
        case [forms.REFUSED, *parts]:
            raise NotBegun(refusal(tuple(parts), port_id))
        case [forms.STREAM, str(source), str(token)]:
            what = port_id, request.method
            return RemoteStream(settings.core(), (source, token), what, settings.window, request.timeout, settings.errors)
    raise GmpError(f"{port_id} is no service: it replied {show(reply, 80)}")


def send(settings: Settings, request: Request) -> None:
    """Make a call that nobody waits for. *Blocks:* as `gmp.send`, and while the group has no member."""
    if request.goes_up:
        raise GmpError(f"{request.method}: an iterator can go up with a call only, which waits for its end")
    until = until_of(request.timeout)
    port_id = settings.target.pick((), until)
    if port_id not in settings.keys:  # nothing would come back to say that one is needed
        _get_key(settings, port_id, left(until))
    key = settings.keys[port_id]
    options = {forms.KEY: key} if key else {}
    types = None if settings.interface is None else settings.interface.of(request.method)
    if types is not None:
        request = _plain(request, types)
    settings.core().send(port_id, forms.SEND, request.method, list(request.args), request.keywords, options)


def until_of(timeout: float | None) -> float | None:
    """Return when a call that is made now has to end, in monotonic time: a method's calls end when it does, too."""
    inherited = current().until
    if timeout is None:
        return inherited
    until = clock.monotonic() + timeout
    return until if inherited is None else min(until, inherited)


def _milliseconds(seconds: float) -> float:
    """Return `seconds`, rounded to milliseconds; `round` takes three times as long."""
    return int(seconds * 1000 + 0.5) / 1000 if seconds < _LONG else seconds


def _options(request: Request, timeout: float | None) -> dict[str, Any]:
    options: dict[str, Any] = {} if timeout is None else {forms.TIMEOUT: timeout}
    me = current()
    if me is not NOBODY:
        if me.until is not None:
            options[forms.WITHIN] = left(me.until)
        if me.chain:
            options[forms.CHAIN] = [list(link) for link in me.chain]
    if request.retry is not None:
        options[forms.RETRY] = True
    return options


def _with_sources(
    core: Core, settings: Settings, request: Request, options: dict[str, Any]
) -> tuple[list[Any], dict[str, Any], list[Source]]:
    """Return the arguments with None for each iterator, and the streams of these; note their ports in `options`."""
    if not request.goes_up:
        return list(request.args), request.keywords, []
    args, sources = list(request.args), []
    keywords = dict(request.keywords)
    places: list[tuple[Any, Any]] = [*enumerate(args), *keywords.items()]
    found = [(place, value) for place, value in places if is_iterator(value)]
    for place, items in found:
        source = Source(core, items, f"an argument of {request.method}", Current(), settings.errors)
        sources.append(source)
        if isinstance(place, int):
            args[place] = None
        else:
            keywords[place] = None
    pairs = zip(found, sources, strict=True)
    options[forms.UPLOADS] = [[place, source.port.id, source.token] for (place, _), source in pairs]
    return args, keywords, sources
