"""A service: a port whose messages are calls of an object's methods, each of which runs in a greenlet of its own.

A call comes → it is refused, or *runs*, or *waits* for a place → it runs, as the service's port → its outcome goes to the
reply port, and the next one has the place. At most `concurrency` run, at most `max_waiting` wait. A stream has no place:
its items are made by a port of its own (`gmp.objects.source`) as its reader takes them.

A call whose caller has given up is *stopped*: one that waits is forgotten, one that runs gets `GreenletExit`. That is known
from the caller's ``cancel``, from the loss of its node, which is watched from its first call on, or from the deadline that
came with the call. A method marked ``finish`` runs on, without a reply.

race: the end of a method and its stop come in the same turn: what is thrown is thrown only at a greenlet that still runs
for that call (`gmp.ports.workers`); a reply to a caller that is gone is dropped there, and counted.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from contextvars import copy_context
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit

from gmp.errors import GmpError, MessageError
from gmp.mesh.groups import Group
from gmp.objects import forms
from gmp.objects.context import Current, Link, begin, end
from gmp.objects.faults import Declared, fault, type_name, untravelled
from gmp.objects.figures import Figures
from gmp.objects.forms import LEAVING, Asked, Malformed, Refused
from gmp.objects.limits import Limits
from gmp.objects.methods import Method, describe_methods
from gmp.objects.places import Places
from gmp.objects.reader import WINDOW, RemoteStream
from gmp.objects.rights import Rights
from gmp.objects.source import PLAIN, Source, is_iterator
from gmp.objects.work import NONE, Served, Work
from gmp.outside import clock
from gmp.ports.monitors import Monitor, Reason
from gmp.ports.timers import Timer
from gmp.ports.workers import ENDS_PROGRAM
from gmp.showing import cut, show, show_typed

if TYPE_CHECKING:
    from gmp.kernel.host import Host

log = logging.getLogger("gmp")
MOST_SHOWN = 4000  # characters of a chain of calls
TICK = 0.05  # seconds between two looks at the deadlines


class Service:
    """One exposed object. `port` is its port; it ends with that."""

    def __init__(
        self, host: Host, thing: Any, methods: dict[str, Method], name: str, limits: Limits, errors: Declared,
        rights: Rights | None,
    ) -> None:  # fmt: skip
        self._host = host
        self._methods = methods
        self._doc = inspect.getdoc(thing) or ""
        self._limits = limits
        self._errors = errors
        self._rights = rights
        self._works: dict[Any, Work] = {}  # those that wait, run or stream, by what they are cancelled by
        self._sources: set[Source] = set()
        self._callers: dict[str, Monitor] = {}  # of the nodes that calls have come from
        self._timer: Timer | None = None
        self._leave: Callable[[], None] | None = None  # takes it out of its group
        self._leaving = host.draining.begun
        self.port = host.ports.make()
        self._places = Places(self.port, self._run, limits.concurrency, host.draining.changed)
        self.name = name or type(thing).__name__
        self._served = {each.name: Served(each, self.name, self.port.id) for each in methods.values()}
        self.figures = Figures({name: each.figures for name, each in self._served.items()})
        self.port.on(forms.DO, self._asked)
        self.port.on(forms.CALL, partial(self._came, forms.read_call))
        self.port.on(forms.SEND, partial(self._came, forms.read_send))
        self.port.on(forms.CANCEL, self._cancelled)
        self.port.on(forms.DESCRIBE, self._asked_what)
        self.port.on(None, self._unknown)
        self.port.own(self)
        host.draining.add(self)
        if rights is not None:
            host.keys[self.port.name] = self._ask_for_key

    # ---- what comes; nothing in it may raise, as that would kill the port

    def _asked(self, method: Any = None, timeout: Any = None, *rest: Any) -> None:
        """A call of the short form. One that is usual in all else, too, goes without more ado; the others go their way."""
        works = self._works
        try:
            reply, served = rest[-1], self._served[method]
            node_id, _, name = reply.partition("#")
            usual = (
                served.usual and (node_id in self._callers or node_id == self._host.id) and name and reply not in works
                and (timeout is None or (type(timeout) is float and 0.0 <= timeout < inf))
            )  # fmt: skip
        except (LookupError, TypeError, AttributeError):  # no such method, or no such form
            usual = False
        places = self._places
        if (
            not usual or self._leaving or self._rights is not None or self._host.tracer is not None
            or not places.has_room(self._limits.max_waiting)
        ):  # fmt: skip
            self._came(forms.read_do, method, timeout, *rest)
            return
        until = None if timeout is None else clock.monotonic() + timeout
        work = works[reply] = Work(served, reply, node_id, name, rest[:-1], until)
        if until is not None and self._timer is None:
            self._timer = Timer(TICK, self._tick, again=True)
        places.add(work)

    def _came(self, read: Any, *rest: Any) -> None:
        try:
            asked = read(rest)
            work = self._admit(asked)
        except Malformed as error:
            self._refuse("" if read is forms.read_send else forms.reply_of(rest), "malformed", str(error))
            return
        except Refused as refused:
            self._refuse(asked.reply, refused.kind, refused.text)
            return
        if asked.node_id not in self._callers and asked.node_id not in ("", self._host.id):
            try:
                self._watch(asked.node_id)
            except GmpError as error:  # it cannot be a caller: this node knows no other
                self._complain(str(error))
                return
        self._works[work.key] = work
        if self._host.tracer is not None:
            work.context = copy_context()
        if work.until is not None and self._timer is None:
            self._timer = Timer(TICK, self._tick, again=True)
        if work.served.method.is_generator:  # which needs no place, as it runs in that of its stream
            beside = Places(self.port, self._run, 1, self._host.draining.changed)
            beside.add(work)
        else:
            self._places.add(work)

    def _admit(self, asked: Asked) -> Work:
        """Return the call as work. *Raises:* `Malformed`, `Refused`."""
        options = asked.options
        if self._rights is not None and not self._rights.admits(options.get(forms.KEY)):
            text = f"{self.name} is for certain nodes: a call needs the key that its node gives to these"
            raise Refused(forms.KEY, text)
        if self._leaving:
            raise Refused(LEAVING, f"node {self._host.id} leaves the network")
        served = self._served.get(asked.method)
        if served is None:
            has = ", ".join(sorted(self._methods))
            raise Refused("no_method", f"{self.name} has no method {asked.method[:80]!r}, it has {has[:400]}")
        key: Any = forms.call_id(asked) if asked.reply else object()
        if key in self._works:
            raise Malformed(f"option {forms.ID}: another call of that name is under way")
        limits, runs = self._limits, not served.method.is_generator
        chain = served.chain
        if forms.CHAIN in options:
            chain = self._links(served, asked, runs)
        if forms.RETRY in options and options[forms.RETRY] and not served.method.mark.idempotent:
            text = f"{served.shown} is to be retried, but is not marked @gmp.method(idempotent=True)"
            raise Refused("not_idempotent", text)
        places = self._places
        if runs and not places.has_room(limits.max_waiting):
            raise Refused("busy", f"{len(places)} calls run and {len(places.waiting)} wait at {self.name}")
        until = forms.seconds(options, forms.TIMEOUT) if forms.TIMEOUT in options else None
        until = None if until is None else clock.monotonic() + until
        work = Work(served, key, asked.node_id, asked.reply.partition("#")[2], asked.args, until)
        work.keywords, work.chain = asked.keywords, chain
        work.within = forms.seconds(options, forms.WITHIN)
        if forms.UPLOADS in options:
            self._read_uploads(work, asked)
        return work

    def _links(self, served: Served, asked: Asked, runs: bool) -> tuple[Link, ...]:
        """Return the chain of calls with this one. *Raises:* `Refused` when it would wait for itself; `Malformed`."""
        links = forms.chain(asked.options)
        if runs and links and sum(port_id == self.port.id for port_id, _ in links) >= self._limits.concurrency:
            shown = " → ".join([*(called for _, called in links), served.shown])
            raise Refused("cycle", f"the call would wait for itself: {cut(shown, MOST_SHOWN)}")
        # only who waits for a call can wait in a circle
        return (*links[1 - forms.MOST_CHAIN :], *served.chain) if asked.reply else served.chain

    def _read_uploads(self, work: Work, asked: Asked) -> None:
        for place, source, token in forms.uploads(asked):
            what = (source, f"argument {place}")
            reader = RemoteStream(self._host, (source, token), what, WINDOW, None, self._errors)
            work.readers += (reader,)
            if isinstance(place, int):
                asked.args[place] = reader
            else:
                asked.keywords[place] = reader

    def _ask_for_key(self, node_id: str) -> tuple[Any, ...]:
        """Return the reply to a node that asks for the key."""
        if self._rights is None:
            return (forms.KEY, "")
        if node_id != self._host.id and node_id not in self._callers:
            self._watch(node_id)
        return self._rights.answer(node_id)

    def _cancelled(self, call_id: Any = None, key: Any = None, *_: Any) -> None:
        may = self._rights is None or self._rights.admits(key)
        work = self._works.get(call_id) if may and isinstance(call_id, str) else None
        if work is not None:
            self._stop(work)

    def _asked_what(self, reply: Any = None, *_: Any) -> None:
        try:
            self._tell(forms.reply_port(reply)[0], forms.DESCRIBED, self.description())
        except Malformed as error:
            self._complain(str(error))

    def _unknown(self, *message: Any) -> None:
        self._complain(f"expected a call, not the message {show(message, 80)}")

    def _complain(self, text: str) -> None:
        self._host.peer_log.tell(log, logging.WARNING, "not for a service", self._host.id, f"service {self.name}: {text}")

    def _refuse(self, reply: str, kind: str, text: str) -> None:
        self.figures.refused += 1
        if reply:
            self._tell(reply, forms.REFUSED, kind, text)
        else:
            self._complain(f"refused ({kind}): {text}")

    def _tell(self, reply: str, *message: Any) -> None:
        try:
            self._host.send_soon(reply, *message)
        except GmpError as error:  # what was given as a reply port is none, or cannot be sent to
            self._complain(f"no reply to {reply:.80}: {error}")

    # ---- running

    def _run(self, work: Work) -> None:
        work.begun = True
        try:
            if not work.given_up:
                began = clock.monotonic()
                outcome = self._outcome(work) if work.context is None else work.context.run(self._outcome, work)
                ended = clock.monotonic()
                work.served.figures.count(outcome[0] == forms.RAISE, ended - began)
                if work.reply_name:
                    self._answer(work, outcome, ended)
        finally:
            work.place = None
            if work.source is None:
                self._works.pop(work.key, None)
                if work.readers:
                    work.close_readers()

    def _outcome(self, work: Work) -> tuple[Any, ...]:
        """Call the method; return the reply."""
        args, keywords, served = work.args, work.keywords, work.served
        work.args, work.keywords = (), NONE  # what the method lets go is gone
        begun = begin(work)
        try:
            types = served.types
            if types is not None:
                result = served.method.checked(args, keywords)
            elif keywords:
                result = served.function(*args, **keywords)
            else:
                result = served.function(*args)
            if served.streams or (type(result) not in PLAIN and is_iterator(result)):
                return self._stream(work, iter(result) if types is None else types.plain_items(iter(result)))
            return forms.RETURN, result if types is None else types.plain(result)
        except ENDS_PROGRAM:
            raise
        except GreenletExit:
            if work.given_up or not self.port.alive:
                raise
            return fault(GreenletExit("the method ended its own greenlet"), self._errors, lambda _: False)
        except BaseException as error:
            if not work.reply:
                log.warning("%s, whose caller waits for nothing, raised", work.served.shown, exc_info=error)
            return fault(error, self._errors, partial(self._travels, work.reply))
        finally:
            end(begun)

    def _travels(self, reply: str, value: Any) -> bool:
        try:
            self._host.check_message([reply], (value,))
        except GmpError:
            return False
        return True

    def _answer(self, work: Work, outcome: tuple[Any, ...], now: float) -> None:
        until = work.until
        if work.given_up or (until is not None and until <= now and work.source is None):  # too late, also for an error
            self.figures.late += 1
            if work.source is not None:
                work.source.stop()
            return
        try:
            reply = self._host.reply
            reply(work.node_id, work.reply_name, outcome)
        except MessageError as error:
            self.figures.untravelled += 1
            what = f"the result of {work.served.shown}, {show_typed(outcome[1])},"
            self._tell(work.reply, *untravelled(error, what))
        except GmpError as error:
            self._complain(f"no reply to {work.reply:.80}: {error}")

    # ---- streams

    def _stream(self, work: Work, items: Iterator[Any]) -> tuple[Any, ...]:
        """Begin a stream of `items`; return the reply."""
        if not work.reply or len(self._sources) >= self._limits.max_streams:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            self.figures.refused += 1
            return forms.REFUSED, "busy", f"{len(self._sources)} streams of {self.name} are open"
        work.until = None if work.within is None else clock.monotonic() + work.within  # the timeout was for its beginning
        call = Current(work.until, work.chain)
        source = Source(self._host, items, work.served.shown, call, self._errors)
        source.ended = partial(self._stream_ended, work, source)
        work.source = source
        self._sources.add(source)
        self.figures.streams += 1
        return forms.STREAM, source.port.id, source.token

    def _stream_ended(self, work: Work, source: Source) -> None:
        self._sources.discard(source)
        work.source = None
        if work.place is None:
            self._forget(work)
        self._host.draining.changed()

    # ---- giving up

    def _stop(self, work: Work) -> None:
        """Nobody waits for `work` any more."""
        if work.given_up:
            return
        work.given_up = True
        if work.source is not None:
            work.source.stop()
        elif work.place is None:
            if work in self._places.waiting:  # or it is about to begin a stream, and has no place
                self._places.waiting.remove(work)
            self._forget(work)
        if work.served.method.mark.finish and work.begun:
            return
        self.figures.stopped += 1
        if work.begun and work.place is not None:
            work.place.stop(work)

    def _forget(self, work: Work) -> None:
        self._works.pop(work.key, None)
        if work.readers:
            work.close_readers()

    def _watch(self, node_id: str) -> None:
        def lost(_: Reason) -> None:
            self._callers.pop(node_id, None)
            if self._rights is not None:
                self._rights.forget(node_id)
            for work in [work for work in self._works.values() if work.node_id == node_id]:
                self._stop(work)

        self._callers[node_id] = self._host.watch(node_id, lost)

    def _tick(self) -> None:
        # race: Ctrl-C within it: it runs again, so until its end it counts as the timer, and no call makes another
        now = clock.monotonic()
        for work in [work for work in self._works.values() if work.until is not None and work.until <= now]:
            self._stop(work)
        more = any(work.until is not None for work in self._works.values())
        self._timer = Timer(TICK, self._tick, again=True) if more else None

    # ---- the end

    def join(self, group: Group, value: Any) -> None:
        """Join `group`; leave it when the node leaves."""
        self._leave = partial(group.leave, self.port)  # first: an interrupted join is taken back by `drain`, too
        group.join(self.port, value)

    def drain(self) -> None:
        """`Drained.drain`: refuse what has not begun, so that its callers can go elsewhere."""
        self._leaving = True
        try:
            if self._leave is not None:
                self._leave()
        except GmpError as error:
            log.debug("service %s: %s", self.name, error)
        waiting = self._places.waiting
        while waiting:
            work = waiting.popleft()
            self._forget(work)
            self._refuse(work.reply, LEAVING, f"node {self._host.id} leaves the network")

    @property
    def idle(self) -> bool:
        """`Drained.idle`."""
        return not len(self._places) and not any(source.open for source in self._sources)

    def end(self) -> None:
        """`Drained.end`: tell callers whose calls have begun; the port's death tells the others that theirs have not."""
        for work in self._places.running():
            if work.reply and not work.given_up:
                text = f"it was stopped, as node {self._host.id} leaves the network"
                self._tell(work.reply, forms.RAISE, "GreenletExit", text, [text], "", None)
            work.given_up = True

    def close(self) -> None:
        """The port is dead: its greenlets end by themselves."""
        self._host.draining.discard(self)
        self._host.keys.pop(self.port.name, None)
        if self._timer is not None:
            self._timer.cancel()
        for monitor in self._callers.values():
            monitor.cancel()
        for source in list(self._sources):
            source.stop()
        self._callers.clear()
        self._places.waiting.clear()
        self._works.clear()

    # ---- being seen

    def description(self) -> dict[str, Any]:
        """Return what others are told of the service: plain data."""
        return {
            "name": self.name,
            "doc": self._doc,
            "methods": describe_methods(self._methods),
            "declared": sorted(map(type_name, self._errors.values())),
            "concurrency": self._limits.concurrency,
            "max_waiting": self._limits.max_waiting,
            **self._now(),
        }

    def stats(self) -> dict[str, Any]:
        """`Drained.stats`."""
        figures = self.figures
        told = {"name": self.name, "port": self.port.id, "methods": figures.of_methods()}
        return {**told, **figures.of_durations(), **self._now()}

    def _now(self) -> dict[str, int]:
        places = self._places
        now = {"running": len(places.running()), "waiting": len(places.waiting), "open_streams": len(self._sources)}
        return {**now, **self.figures.of_all()}
