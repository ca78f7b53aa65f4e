"""mDNS by zeroconf (extra ``lan``): what this machine announces on the LAN, and what others do.

zeroconf runs an asyncio loop in a native thread of its own, and its functions block natively: they are called in the hub's
thread pool. In a program that gevent has patched its thread would be a greenlet, beside which asyncio takes the program's
own greenlets for tasks of that loop, and zeroconf does nothing that blocks: there is no mDNS there.
"""

from __future__ import annotations

import _thread
import importlib
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gevent
from gevent import monkey

from gmp.config import Address
from gmp.errors import ConfigError, GmpError
from gmp.outside import chance

LIFE = 120  # seconds for which others believe an announcement that is not repeated, as its process was killed
ANSWER = 1000  # milliseconds in which one that is known in part is asked for the rest
MOST_ASKED = 4  # of such, at each look
TEXT = 255  # bytes of one property
MOST_ADDRESSES = 4  # that fit into one


def package() -> Any:
    """Return zeroconf. *Raises:* `ConfigError` if it is not installed, and in a patched program."""
    if monkey.is_module_patched("threading"):
        raise ConfigError(
            "mDNS (lan) does not work in a program that gevent has patched: give seeds, and the secret of the LAN's network;"
            " or begin the node in a program of its own"
        )
    try:
        return importlib.import_module("zeroconf")
    except ImportError:
        raise ConfigError("nodes on a LAN find each other by zeroconf: pip install 'gevent-mp[lan]'") from None


def _outcome(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    try:
        return function(*args), None
    except Exception as error:  # the thread pool, in which this runs, would print it
        return None, error


def _run(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function that blocks natively. *Blocks:* until it returns. *Raises:* `GmpError`."""
    result, error = gevent.get_hub().threadpool.apply(_outcome, (function, args))
    if error is not None:
        raise GmpError(f"mDNS on this LAN: {type(error).__name__}: {error}") from error
    return result


class Mdns:
    """One program on the LAN's mDNS. `changed`, if given, is called in *another thread* when something was seen."""

    def __init__(self, addresses: Iterable[Address], changed: Callable[[], object] | None = None) -> None:
        """`addresses` are those to announce; with loopback ones alone nothing leaves this machine.

        *Blocks:* for a moment. *Raises:* `ConfigError`, `GmpError`.
        """
        self._package = package()
        self._addresses = [address for address in addresses if _is_numeric(address.host)]
        here = self._addresses and all(ipaddress.ip_address(each.host).is_loopback for each in self._addresses)
        interfaces = ["127.0.0.1"] if here else self._package.InterfaceChoice.All
        self.at = " ".join(map(_text_of, self._addresses[:MOST_ADDRESSES]))  #: ``host:port host:port…``
        self._changed = changed
        self._names: dict[str, set[str]] = {}  # those seen of each type; used in another thread
        self._browsers: list[Any] = []
        self._zeroconf: Any = None
        self._given_up = False
        self._lock = _thread.allocate_lock()
        try:
            _run(self._open, interfaces)
        except BaseException:  # race: the greenlet is killed meanwhile, as the node is closed
            with self._lock:
                self._given_up = True
            self.close()
            raise

    def _open(self, interfaces: Any) -> None:
        opened = self._package.Zeroconf(interfaces)
        with self._lock:
            self._zeroconf = opened
            given_up = self._given_up
        if given_up:
            opened.close()

    def announce(self, type_: str, name: str, port: int, properties: Mapping[str, str]) -> None:
        """Tell the LAN of a service; the property ``at`` says where it is.

        *Blocks:* about a second. *Raises:* `GmpError`.
        """
        texts = {key: value.encode()[: TEXT - len(key) - 1] for key, value in {"at": self.at, **properties}.items()}
        info = self._package.ServiceInfo(
            type_,
            f"{name}.{type_}",
            port,
            properties=texts,
            server=f"{name}.local.",
            parsed_addresses=[address.host for address in self._addresses] or ["127.0.0.1"],
            other_ttl=LIFE,
        )
        _run(self._zeroconf.register_service, info)

    def browse(self, type_: str) -> None:
        """Look for services of a type from now on. *Raises:* `GmpError`."""
        names = self._names[type_] = set()
        listener = _Listener(names, self._changed)
        self._browsers.append(_run(self._package.ServiceBrowser, self._zeroconf, type_, None, listener))

    def found(self, type_: str) -> list[Mapping[str, str]]:
        """Return the properties of each service of a type that is there now.

        *Blocks:* while it asks for missing ones, `MOST_ASKED` of them each time: a stranger can announce any number.
        """
        known: list[Any] = []
        missing: list[Any] = []
        for info in (self._info(type_, name) for name in sorted(self._names[type_])):
            if info is not None:
                (known if info.load_from_cache(self._zeroconf) else missing).append(info)
        chance.shuffle(missing)  # so that those of a stranger, whom nobody answers for, keep none from being asked for
        known += [info for info in missing[:MOST_ASKED] if _run(info.request, self._zeroconf, ANSWER)]
        return [
            {_text(key): _text(value) for key, value in info.properties.items() if value is not None} for info in known
        ]

    def _info(self, type_: str, name: str) -> Any:
        """Return what zeroconf knows a service by; None for a name that is none: a stranger can announce any text."""
        try:
            return self._package.ServiceInfo(type_, name)
        except self._package.BadTypeInNameException:
            return None

    def close(self) -> None:
        """Say goodbye to the LAN. *Blocks:* for a moment."""
        with self._lock:
            opened = self._zeroconf
        for browser in self._browsers:  # their threads would live on
            _run(browser.cancel)
        if opened is not None:
            _run(opened.close)


class _Listener:
    """What zeroconf calls in its thread."""

    def __init__(self, names: set[str], changed: Callable[[], object] | None) -> None:
        self._names = names
        self._changed = changed

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed()

    def add_service(self, zeroconf: Any, type_: str, name: str) -> None:
        """One is new."""
        self._names.add(name)
        self._tell()

    def update_service(self, zeroconf: Any, type_: str, name: str) -> None:
        """One has changed."""
        self._tell()

    def remove_service(self, zeroconf: Any, type_: str, name: str) -> None:
        """One is gone."""
        self._names.discard(name)
        self._tell()


def addresses_here() -> list[str]:
    """Return the numeric addresses of this machine, without those that mean nothing elsewhere, if it has others."""
    package()
    adapters = importlib.import_module("ifaddr").get_adapters()  # what zeroconf is made of
    found = [str(ip.ip if ip.is_IPv4 else ip.ip[0]) for adapter in adapters for ip in adapter.ips]
    useful = [each for each in found if not _means_nothing_elsewhere(ipaddress.ip_address(each.partition("%")[0]))]
    return useful or ["127.0.0.1"]


def _means_nothing_elsewhere(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_loopback or address.is_link_local


def _text_of(address: Address) -> str:
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
