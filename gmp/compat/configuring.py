"""AnyEvent::MP's `configure`: Perl's settings, each turned into gmp's, or refused with a word on what to use."""

from __future__ import annotations

import logging
import os
import re
import string
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gmp
from gmp import ConfigError
from gmp.outside import chance

log = logging.getLogger("gmp.compat")
Settings = dict[str, Any]
FRAMINGS = ("msgpack", "cbor", "json")
OFFERED = ("tls_sha3_512", "hmac_sha3_512")
ACCEPTED: dict[str, Settings] = {
    **{name: {} for name in OFFERED},
    "tls_anon": {"allow_anonymous": True},
    "cleartext": {"allow_cleartext": True},
}
RANDOM_LENGTH = 10
_ALPHABET = string.digits + string.ascii_letters


def configure(*profile_and_pairs: Any, **settings: Any) -> gmp.Node:
    """Start the own node: ``configure(profile, key, value, …)``, or keywords. Returns the node.

    The keys are Perl's, or gmp's (see `gmp.configure`): ``profile`` (one that the configuration file has not is only a
    name), ``nodeid`` (with ``%n`` for the host's name, ``%u`` and a ``/`` at the end for something random), ``binds``,
    ``seeds``, ``secret``, ``cert``, ``services`` (Perl's names too), ``norc``, ``force``, ``framing_format``,
    ``auth_offer``, ``auth_accept``, ``secure``, ``monitor_timeout``, ``connect_interval``. What is given here goes before
    the file, as with Perl's ``force``.

    As in Perl the second call changes nothing; it returns the node that runs, and the log says so.
    *Raises:* `ConfigError` that names what to use instead; as `gmp.configure`. *Blocks:* as `gmp.configure`.
    """
    pairs = list(profile_and_pairs)
    if len(pairs) % 2:
        pairs.insert(0, "profile")
    given: Settings = {}
    for key, value in [*zip(pairs[::2], pairs[1::2], strict=True), *settings.items()]:
        if not isinstance(key, str):
            raise ConfigError(f"configure: {key!r} is no setting; expected a profile, and pairs of a name and a value")
        given[key] = value
    profile, norc = given.pop("profile", None), bool(given.pop("norc", False))
    if profile is not None and not isinstance(profile, str):
        raise ConfigError(f"configure: profile {profile!r} is no name; expected a text")
    made = _translated(given)
    running = gmp.node()
    if running.started:
        log.warning("configure: node %s runs already, and stays as it is, as in Perl", running.id)
        return running
    if norc:
        if not (made.get("secret") or made.get("cert") or os.environ.get("GMP_SECRET")):
            raise ConfigError("norc: no file is read, so there is no secret; expected secret= or cert= beside it")
        with _no_file():
            return gmp.configure(**_named(made, profile))
    if profile is None or _is_in_file(profile):
        return gmp.configure(profile, **made)
    return gmp.configure(**_named(made, profile))


def _named(made: Settings, profile: str | None) -> Settings:
    """A node without an ID is called after its profile, with something random behind it."""
    if profile is not None and made.get("node_id") is None:
        return {**made, "node_id": f"{profile}/"}
    return made


def _is_in_file(profile: str) -> bool:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    path = Path(os.environ.get("GMP_CONFIG") or os.path.join(base, "gmp", "config.toml"))
    try:
        profiles = tomllib.loads(path.read_text(encoding="utf-8")).get("profile", {})
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True  # `gmp.configure` says what is wrong with the file
    return not isinstance(profiles, dict) or profile in profiles


@contextmanager
def _no_file() -> Iterator[None]:
    """Let the node find an empty configuration file."""
    before = os.environ.get("GMP_CONFIG")
    os.environ["GMP_CONFIG"] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ["GMP_CONFIG"]
        else:
            os.environ["GMP_CONFIG"] = before


def _translated(given: Settings) -> Settings:
    made: Settings = {}
    for key, value in given.items():
        translate = _TRANSLATED.get(key) if value is not None else None
        if key in _REFUSED:
            raise ConfigError(f"{key}: {_REFUSED[key]}")
        if value is None and key in _TRANSLATED:
            continue  # as if it were not given
        for name, result in ((key, value),) if translate is None else translate(value).items():
            if name in made and made[name] != result:
                raise ConfigError(f"{key}={value!r} says {name}={result!r}, and another setting {name}={made[name]!r}")
            made[name] = result
    return made


def _node_id(value: Any) -> Settings:
    if not isinstance(value, str):
        return {"node_id": value}
    random = chance.characters(_ALPHABET, RANDOM_LENGTH)
    return {"node_id": value.replace("%n", os.uname().nodename).replace("%u", random)}


def _seeds(value: Any) -> Settings:
    """A seed ``*:4040`` is one on this host."""
    texts = value.split(",") if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise ConfigError(f"seeds {value!r}: expected a list of host:port")
    return {"seeds": [re.sub(r"^\*:", "127.0.0.1:", text) if isinstance(text, str) else text for text in texts]}


def _services(value: Any) -> Settings:
    if isinstance(value, str):
        return {"services": [_service(text) for text in value.split()] if "::" in value else value}
    return {"services": [_service(item) for item in value] if isinstance(value, list | tuple) else value}


def _service(item: Any) -> Any:
    """``"My::Module::"`` is a module, ``"My::Module::start"`` a function; a list has a function's arguments behind it."""
    if isinstance(item, list | tuple) and item:
        return [_service(item[0]), *item[1:]]
    if not isinstance(item, str) or "::" not in item:
        return item
    module, _, function = item.rpartition("::")
    return f"{module.replace('::', '.')}:{function}"


def _framings(value: Any) -> Settings:
    known = [name for name in _names("framing_format", value, (*FRAMINGS, "storable")) if name != "storable"]
    if not known:
        raise ConfigError(f"framing_format {value!r}: storable is Perl's alone, expected one of {', '.join(FRAMINGS)} too")
    return {"framings": known}


def _auth_offer(value: Any) -> Settings:
    return _with_tls(_names("auth_offer", value, OFFERED))


def _auth_accept(value: Any) -> Settings:
    names = _names("auth_accept", value, tuple(ACCEPTED))
    made = _with_tls(names)
    for name in names:
        made.update(ACCEPTED[name])
    return made


def _with_tls(names: Sequence[str]) -> Settings:
    """Without hmac there is TLS alone: what gmp offers and accepts follows from the secret and certificate it has."""
    return {"require_tls": True} if all(name.startswith("tls_") for name in names) else {}


def _names(key: str, value: Any, known: Sequence[str]) -> list[str]:
    names = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or any(name not in known for name in names):
        raise ConfigError(f"{key} {value!r}: expected a list of {', '.join(known)}")
    return list(names)


def _secure(value: Any) -> Settings:
    return {"allow_eval": False, "allow": []} if value and value != "0" else {}


_TRANSLATED: dict[str, Callable[[Any], Settings]] = {
    "nodeid": _node_id,
    "seeds": _seeds,
    "services": _services,
    "framing_format": _framings,
    "auth_offer": _auth_offer,
    "auth_accept": _auth_accept,
    "secure": _secure,
    "monitor_timeout": lambda value: {"lost_after": value},
    "connect_interval": lambda value: {"address_timeout": value},
    "force": lambda value: {},
}
_REFUSED = {
    "eval": "expected no text to evaluate: call a function behind configure, or give it as one of services=",
    "parent": "a profile's parent stands in the configuration file, under [profile.NAME]",
}
