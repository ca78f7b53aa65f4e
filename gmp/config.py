"""Settings: from explicit arguments, then the environment, then a profile and its parents in a TOML file, then defaults.

The file is ``$GMP_CONFIG``, else ``gmp/config.toml`` in the XDG config directory::

    seeds = ["10.0.0.1:4040"]        # for every profile

    [profile.worker]
    parent = "base"
    binds = ["*:0"]

The secret has a file of its own beside it (`gmp.secretfile`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gmp.configfile import ConfigFile, config_path, read_config
from gmp.errors import ConfigError
from gmp.ids import check_lan, check_node_id
from gmp.later import later
from gmp.secretfile import check_private, lan_secret, user_secret
from gmp.servicelist import Service, parse_services

if TYPE_CHECKING:
    import difflib
    import ipaddress
else:
    difflib, ipaddress = later("difflib"), later("ipaddress")

SEED_MARK = "gmp#seed"  #: the URI in a certificate that marks it as a seed's; no node can be named so


class Settings(NamedTuple):
    """Everything that can be set of a node. Times are in seconds, sizes in bytes."""

    node_id: str | None = None
    profile: str | None = None
    binds: tuple[str, ...] | None = None
    seeds: tuple[str, ...] = ()
    lan: str | None = None
    advertise: tuple[str, ...] | None = None
    reached_at: tuple[str, ...] | None = None
    require_roles: bool = False
    unix_sockets: bool = True
    secret: bytes | None = None
    secret_given: bool = False
    cert: str | None = None
    cert_names: bool = False
    cert_seeds: bool = False
    require_tls: bool | None = None
    services: tuple[Service, ...] = ()
    allow: tuple[str, ...] = ()
    allow_eval: bool = False
    allow_follow: bool = False
    allow_cleartext: bool = False
    allow_anonymous: bool = False
    handshake_timeout: float = 10.0
    connect_timeout: float = 10.0
    address_timeout: float = 2.0
    leave_timeout: float = 10.0
    lost_after: float = 20.0
    busy_after: float | None = 10.0
    hung_after: float | None = 60.0
    framings: tuple[str, ...] = ()
    perl_strings: str = "text"
    send_buffer: int | None = None
    high_mark: int = 1 << 20
    low_mark: int = 512 << 10
    max_message: int = 64 << 20
    max_entries: int = 100_000
    max_entries_size: int = 64 << 20
    max_unauthenticated: int = 128
    max_unauthenticated_per_address: int = 32

    def __repr__(self) -> str:
        values = zip(self._fields, self, strict=True)
        return f"Settings({', '.join(f'{name}={_shown(name, value)}' for name, value in values)})"

    @property
    def tls_required(self) -> bool:
        """Whether a connection without TLS is refused: `require_tls`, by itself whenever there is a certificate."""
        return self.cert is not None if self.require_tls is None else self.require_tls

    @property
    def credentials_given(self) -> bool:
        """Whether the user has given a secret, certificate or LAN, so that more than this machine may be meant."""
        return self.secret_given or self.cert is not None or self.lan is not None


class Address(NamedTuple):
    """Where to listen or to connect."""

    host: str
    port: int


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of texts")
    return tuple(value)


def _secret(value: object) -> bytes:
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes) or not value:
        raise ValueError("a text or bytes, not empty")
    return value


def _cert(value: object) -> str:
    """The PEM text; a text without one is the path of a file that has it."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value:
        raise ValueError("a PEM text with key and certificate, or the path of a file with one")
    if "-----BEGIN" in value:
        return value
    try:
        with open(os.path.expanduser(value), encoding="latin-1") as file:
            text = file.read()
            if has_key(text):
                what = f"file {value!r}, which holds a private key,"
                check_private(file, what, "or give the PEM text itself, as by GMP_CERT")
            return text
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        raise ValueError(f"a PEM text, or the path of a file with one: {error}") from None


def _flag(value: object) -> bool:
    if isinstance(value, str) and value.lower() in ("0", "1", "true", "false", "yes", "no"):
        return value.lower() in ("1", "true", "yes")
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, str):
        value = _number(float, value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError("a number of seconds over 0")
    return float(value)


def _lost_after(value: object) -> float:
    try:
        seconds = _seconds(value)
    except ValueError:
        seconds = 0.0
    if seconds < 2:
        raise ValueError("a number of seconds from 2 on: the kernel's probes are whole seconds apart")
    return seconds


def _seconds_or_never(value: object) -> float | None:
    if value is None or value == "never":
        return None
    try:
        return _seconds(value)
    except ValueError as error:
        raise ValueError(f"{error}, None or 'never'") from None


def _count(value: object) -> int:
    if isinstance(value, str):
        value = _number(int, value)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError("a whole number over 0")
    return value


def _number(kind: type[Any], text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        return None


def _perl_strings(value: object) -> str:
    if not isinstance(value, str) or value not in ("text", "characters"):
        raise ValueError("'text' or 'characters'")
    return value


def _addresses(parse: Callable[[str], object]) -> Callable[[object], tuple[str, ...]]:
    def convert(value: object) -> tuple[str, ...]:
        texts = _texts(value)
        for text in texts:
            parse(text)
        return texts

    return convert


_ADDRESS = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>[^:]*))?\Z")


def _split_address(text: str, what: str) -> tuple[str, str | None]:
    match = _ADDRESS.match(text) if isinstance(text, str) else None
    if match is None:
        raise ConfigError(f"{what} {text!r}: expected host:port, an IPv6 address in brackets")
    return match["six"] or match["host"] or "", match["port"]


def _port(text: str, what: str, digits: str) -> int:
    if not digits.isascii() or not digits.isdigit() or int(digits) > 65535:
        raise ConfigError(f"{what} {text!r}: {digits!r} is no TCP port, expected a number from 0 to 65535")
    return int(digits)


SRV_PREFIX = "srv+"  #: a seed that begins so is a DNS SRV name; it has no port of its own


def parse_bind(text: str) -> Address:
    """Where to listen: ``host:port``; ``*`` or nothing as host: all addresses, as port: any free one.

    *Raises:* `ConfigError`.
    """
    host, port = _split_address(text, "bind")
    if host.isdigit():
        raise ConfigError(f"bind {text!r}: expected host:port; for a port on all addresses write ':{host}'")
    return Address(host or "*", 0 if port in (None, "", "*") else _port(text, "bind", str(port)))


def parse_advertised(text: str) -> Address:
    """An address to announce: ``host:port``; without a port that of the first bind. *Raises:* `ConfigError`."""
    host, port = _split_address(text, "advertised address")
    if not host or host == "*" or host.isdigit():
        raise ConfigError(f"advertised address {text!r}: expected host:port, or host alone for the port of the first bind")
    return Address(host, 0 if port in (None, "", "*") else _port(text, "advertised address", str(port)))


def parse_seed(text: str) -> Address:
    """Where a seed listens: ``host:port``, or a DNS SRV name ``srv+_gmp._tcp.example.org``. *Raises:* `ConfigError`."""
    host, port = _split_address(text, "seed")
    if host.startswith(SRV_PREFIX):
        if host == SRV_PREFIX or port is not None:
            raise ConfigError(f"seed {text!r}: expected a DNS SRV name without a port, such as 'srv+_gmp._tcp.example.org'")
        return Address(host, 0)
    if not host or host == "*" or not port:
        raise ConfigError(f"seed {text!r}: expected host:port")
    number = _port(text, "seed", port)
    if number == 0:
        raise ConfigError(f"seed {text!r}: nothing listens on port 0")
    return Address(host, number)


ANYWHERE = "*"  #: in `reached_at`: under any address


def parse_reached(text: str) -> None:
    """An address under which diallers reach this node: ``*``, or numeric, ``host:port`` or ``host`` for each of its ports.

    *Raises:* `ConfigError`.
    """
    if text != ANYWHERE:
        split_reached(text)


def split_reached(text: str) -> Address:
    """Such an address but ``*``; port 0: any. *Raises:* `ConfigError`."""
    host, port = _split_address(text, "reached_at")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ConfigError(f"reached_at {text!r}: expected '*', or a numeric address such as '203.0.113.5:4040'") from None
    return Address(host, 0 if port in (None, "", "*") else _port(text, "reached_at", str(port)))


_CONVERTERS: dict[str, Callable[[object], Any]] = {
    "node_id": check_node_id,
    "binds": _addresses(parse_bind),
    "seeds": _addresses(parse_seed),
    "lan": check_lan,
    "advertise": _addresses(parse_advertised),
    "reached_at": _addresses(parse_reached),
    "require_roles": _flag,
    "unix_sockets": _flag,
    "secret": _secret,
    "cert": _cert,
    "cert_names": _flag,
    "cert_seeds": _flag,
    "require_tls": _flag,
    "services": parse_services,
    "allow": _texts,
    "allow_eval": _flag,
    "allow_follow": _flag,
    "allow_cleartext": _flag,
    "allow_anonymous": _flag,
    "handshake_timeout": _seconds,
    "connect_timeout": _seconds,
    "address_timeout": _seconds,
    "leave_timeout": _seconds,
    "lost_after": _lost_after,
    "busy_after": _seconds_or_never,
    "hung_after": _seconds_or_never,
    "framings": _texts,
    "perl_strings": _perl_strings,
    "send_buffer": _count,
    "high_mark": _count,
    "low_mark": _count,
    "max_message": _count,
    "max_entries": _count,
    "max_entries_size": _count,
    "max_unauthenticated": _count,
    "max_unauthenticated_per_address": _count,
}

_NONE_IS_A_VALUE = {"busy_after", "hung_after"}


def load_settings(profile: str | None, arguments: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """The settings in force. An argument that is None counts as not given, but for those that None means something to.

    *Raises:* `ConfigError` naming the key, the value, where it stands and what was expected.
    """
    path = config_path(environ)
    values: dict[str, Any] = {key: value for _, key, value in _given(profile, environ, path)}
    for key, value in arguments.items():
        if value is not None or key in _NONE_IS_A_VALUE:
            values[key] = convert(key, value, "argument")
    values["secret_given"] = "secret" in values
    if "secret" not in values and "cert" not in values:
        lan = values.get("lan")
        folder = os.path.dirname(path)
        values["secret"] = user_secret(os.path.join(folder, "secret")) if lan is None else lan_secret(folder, lan)
    settings = Settings(profile=profile, **values)
    if settings.low_mark > settings.high_mark:
        raise ConfigError(f"low_mark {settings.low_mark} is over high_mark {settings.high_mark}")
    if settings.tls_required and settings.cert is None:
        raise ConfigError("require_tls is set, but there is no cert: TLS needs a certificate on both sides")
    if settings.cert_seeds and not settings.cert_names:
        raise ConfigError("cert_seeds is set without cert_names: expected both, as a seed's certificate has to name it")
    if settings.cert_names and not settings.tls_required:
        raise ConfigError(
            "cert_names is set, but connections without TLS are admitted, and nothing proves who is there:"
            " expected a cert, and require_tls not to be false"
        )
    return settings


def own_name(environ: Mapping[str, str]) -> str:
    """What nodes of this host are called that are given no name: ``GMP_NODE_ID``, else the host's name; no ``/`` at its end.

    *Raises:* `ConfigError` telling what to set when the host's name cannot be part of a node ID.
    """
    given = environ.get("GMP_NODE_ID", "").rstrip("/")
    if given:
        return str(convert("node_id", given, "environment variable GMP_NODE_ID"))
    host = os.uname().nodename
    try:
        return check_node_id(host)
    except ConfigError:
        raise ConfigError(
            f"this host's name {host!r} cannot be part of a node ID, which has letters, digits and _ - . : /, and begins"
            " with a letter, a digit or _: give node_id, or set GMP_NODE_ID in the environment"
        ) from None


def effective(profile: str | None, environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Of every setting its value, without arguments, and where it comes from. *Raises:* `ConfigError`."""
    found = {name: (value, "default") for name, value in defaults().items()}
    for where, key, value in _given(profile, environ, config_path(environ)):
        found[key] = (value, where)
    return found


def check_file(file: ConfigFile) -> None:
    """See that every profile of a file can be used. *Raises:* `ConfigError` for the first that cannot."""
    for profile in (None, *file.profiles):
        for layer in file.layers(profile):
            for key, value in layer.values.items():
                convert(key, value, partial(layer.where, key))


def _given(profile: str | None, environ: Mapping[str, str], path: str) -> Iterator[tuple[str, str, Any]]:
    """Where, key and value of what file and environment give, the weakest first."""
    file = read_config(path)
    _check_secrets(file)
    for layer in file.layers(profile):
        for key, value in layer.values.items():
            yield layer.name or "config file", key, convert(key, value, partial(layer.where, key))
    for key in _CONVERTERS:
        name = "GMP_" + key.upper()
        if name in environ and (environ[name] or key == "binds"):
            yield name, key, convert(key, environ[name], f"environment variable {name}")


def _check_secrets(file: ConfigFile) -> None:
    """Check that only the owner may read files with a secret or private key, in any profile. *Raises:* `ConfigError`."""
    for keys, values in [((), file.settings), *((("profile", name), profile) for name, profile in file.profiles.items())]:
        for key in ("secret", "cert"):
            if key in values and (key == "secret" or has_key(str(values[key]))):
                with open(file.path, "rb") as opened:
                    check_private(
                        opened,
                        f"{file.where(*keys, key)}: the file holds a {'private key' if key == 'cert' else key}, but",
                        "or put it into a file of its own (`gmp secret`), or into the environment",
                    )
                return


def convert(key: str, value: object, where: str | Callable[[], str]) -> Any:
    """The value of the setting `key`. *Raises:* `ConfigError` naming where it stands, and what is allowed."""
    converter = _CONVERTERS.get(key)
    if converter is None:
        close = difflib.get_close_matches(key, _CONVERTERS, 1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        problem = f"{key!r} is no setting{meant}; there are {', '.join(sorted(_CONVERTERS))}"
    else:
        try:
            return converter(value)
        except ConfigError as error:
            problem = f"{key}: {error}"
        except ValueError as error:
            shown = _shown(key, value, "the value")
            problem = f"{key} cannot be {shown}: expected {error}"
    raise ConfigError(f"{where() if callable(where) else where}: {problem}") from None


def is_secret(key: str, value: object) -> bool:
    """Whether the value of that setting must not be shown."""
    return key == "secret" or (key == "cert" and "-----BEGIN" in str(value))


def _shown(key: str, value: object, hidden: str = "<hidden>") -> str:
    return hidden if value is not None and is_secret(key, value) else repr(value)


def has_key(text: str) -> bool:
    """Whether there is a private key in a PEM text."""
    return "PRIVATE KEY-----" in text


def defaults() -> dict[str, Any]:
    """The names of all settings that `configure` takes, and what they are when nothing sets them."""
    return {name: value for name, value in Settings._field_defaults.items() if name in _CONVERTERS}
