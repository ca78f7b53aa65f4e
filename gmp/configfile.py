"""The configuration file: TOML, settings for every profile at its top and tables ``[profile.NAME]`` with a ``parent``.

It is ``$GMP_CONFIG``, else ``gmp/config.toml`` in the XDG config directory. A file that is not there is an empty one. What
is wrong in it is reported with its line: tomllib keeps no positions, so the line is looked for once something is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from gmp.errors import ConfigError
from gmp.later import later

if TYPE_CHECKING:
    import tomllib
else:
    tomllib = later("tomllib")


def config_path(environ: Mapping[str, str]) -> str:
    """Where the configuration file is, or would be."""
    if environ.get("GMP_CONFIG"):
        return environ["GMP_CONFIG"]
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return os.path.join(base, "gmp", "config.toml")


class Layer(NamedTuple):
    """The settings of one table of the file."""

    name: str  #: ``profile 'worker'``, or nothing for those at the top
    values: Mapping[str, Any]
    file: ConfigFile
    keys: tuple[str, ...]  #: the way to the table

    def where(self, key: str) -> str:
        """File, line and table of a setting, for errors."""
        return self.file.where(*self.keys, key) + (f", {self.name}" if self.name else "")


class ConfigFile(NamedTuple):
    """What a configuration file says."""

    path: str | os.PathLike[str]
    text: str
    settings: Mapping[str, Any]
    profiles: Mapping[str, Mapping[str, Any]]

    def where(self, *keys: str) -> str:
        """The file, and the line on which the value at `keys` begins."""
        line = line_of(self.text, keys)
        return f"config file {self.path}" + (f", line {line}" if line else "")

    def layers(self, profile: str | None) -> list[Layer]:
        """The tables that count for `profile` (None: the host's, when there is one of its name), weakest first.

        *Raises:* `ConfigError` for a profile that is not there and parents that cannot be used.
        """
        if profile is not None and profile not in self.profiles:
            known = ", ".join(sorted(self.profiles)) or "none"
            raise ConfigError(f"profile {profile!r} is not in {self.path}; there are: {known}")
        host = os.uname().nodename
        name = profile if profile is not None else host if host in self.profiles else None
        chain: list[Layer] = []
        while name is not None:
            values = dict(self.profiles[name])
            chain.append(Layer(f"profile {name!r}", values, self, ("profile", name)))
            name = self._parent(name, values.pop("parent", None), [layer.keys[1] for layer in chain])
        return [Layer("", self.settings, self, ()), *reversed(chain)]

    def _parent(self, name: str, parent: Any, seen: list[str]) -> str | None:
        if parent is None:
            return None
        where = self.where("profile", name, "parent")
        if not isinstance(parent, str) or parent not in self.profiles:
            known = ", ".join(sorted(self.profiles))
            raise ConfigError(f"{where}: profile {name!r} has the parent {parent!r}, expected one of {known}")
        if parent in seen:
            raise ConfigError(f"{where}: profile {name!r} has the parent {parent!r}, whose parent it is itself")
        return parent


def read_config(path: str | os.PathLike[str]) -> ConfigFile:
    """Read the file. *Raises:* `ConfigError` naming file and line if it cannot be read or is not valid TOML."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path}: {error}") from error
    return parse_config(path, text)


def parse_config(path: str | os.PathLike[str], text: str) -> ConfigFile:
    """What `text` says as the contents of that file. *Raises:* `ConfigError`."""
    try:
        data = tomllib.loads(text) if text else {}
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config file {path}: {error}") from error
    profiles = data.pop("profile", {})
    wrong = [name for name, entry in profiles.items() if not isinstance(entry, dict)] if isinstance(profiles, dict) else [""]
    if wrong:
        where = ConfigFile(path, text, {}, {}).where("profile", *filter(None, wrong[:1]))
        raise ConfigError(f"{where}: 'profile' must be a table of tables, such as [profile.worker]")
    return ConfigFile(path, text, data, profiles)


def line_of(text: str, keys: tuple[str, ...]) -> int:
    """The line on which the value at `keys` begins, 0 when it has none: the first beginning of the file that has it."""
    lines = text.splitlines(keepends=True)
    whole = 0  # so many lines made a file of their own
    for count in range(1, len(lines) + 1):
        try:
            found: Any = tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if found is not None:
            return whole + 1
        whole = count
    return 0
