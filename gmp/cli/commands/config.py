"""`gmp config`: the configuration file."""

from __future__ import annotations

import os
from typing import Any

import click

import gmp
from gmp.cli.common.completion import complete_profiles, complete_settings
from gmp.cli.common.failures import USAGE, Failure
from gmp.cli.common.output import as_text, parse_argument, plain, print_json
from gmp.cli.common.show import print_table
from gmp.cli.configedit import editing, set_value, table
from gmp.config import convert, defaults, effective, is_secret
from gmp.configfile import config_path, read_config

SECTION = "Set up"
HIDDEN = "(hidden)"
in_profile = click.option(
    "-p", "--profile", metavar="NAME", shell_complete=complete_profiles, help="The profile, instead of all."
)


@click.group(short_help="Show and change the configuration file.")
def command() -> None:
    """Show and change the configuration file, and its profiles.

    The file is $GMP_CONFIG, else gmp/config.toml in the XDG config directory (~/.config). Settings at its top apply
    to every profile; the table [profile.NAME] holds those of one profile, and may name a parent. The order of precedence
    is: arguments in the program, the environment (GMP_SEEDS, GMP_BINDS, GMP_NODE_ID, ...: GMP_ and the setting's name),
    the profile, its parents, the top of the file, the default.

    \b
      gmp config set seeds 10.0.0.1:4040,10.0.0.2:4040
      gmp config profile add worker
      gmp config set -p worker binds '["*:0"]'
      gmp config show worker --effective
    """


@command.command()
@click.argument("profile", required=False, shell_complete=complete_profiles)
@click.option("--effective", "is_effective", is_flag=True, help="Every setting in force, and where it comes from.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(profile: str | None, is_effective: bool, as_json: bool) -> None:
    """Show the file, or the settings of one PROFILE and its parents.

    With --effective, show the settings that a program gets when it names this profile (without PROFILE: the one with the
    host's name, if there is one).
    """
    path = config_path(os.environ)
    if is_effective:
        rows = [(key, _shown(key, value), where) for key, (value, where) in sorted(_effective(profile, path).items())]
        if as_json:
            print_json({key: {"value": value, "from": where} for key, value, where in rows})
        else:
            print_table(("SETTING", "VALUE", "FROM"), [(key, as_text(value), where) for key, value, where in rows])
    elif profile is not None:
        found = {
            key: (_shown(key, value), layer.name or "config file")
            for layer in read_config(path).layers(profile)
            for key, value in layer.values.items()
        }
        if as_json:
            print_json({key: value for key, (value, _) in found.items()})
        else:
            rows = [(key, as_text(value), where) for key, (value, where) in found.items()]
            print_table(("SETTING", "VALUE", "FROM"), rows)
    else:
        _show_file(path, as_json)


def _effective(profile: str | None, path: str) -> dict[str, tuple[Any, str]]:
    found = effective(profile, os.environ)
    if found["secret"][0] is None and found["cert"][0] is None:
        file = os.path.join(os.path.dirname(path), "secret")
        found["secret"] = ("there", f"{file}{'' if os.path.exists(file) else ', made on first use'}")
    return found


def _show_file(path: str, as_json: bool) -> None:
    file = read_config(path)
    settings = {key: _shown(key, value) for key, value in file.settings.items()}
    profiles = {name: {key: _shown(key, value) for key, value in entry.items()} for name, entry in file.profiles.items()}
    if as_json:
        print_json({"path": path, "settings": settings, "profiles": profiles})
        return
    rows = [("", key, as_text(value)) for key, value in settings.items()]
    for name, entry in profiles.items():
        rows += [(name, key, as_text(value)) for key, value in entry.items()] or [(name, "", "")]
    click.echo(f"{path}{'' if os.path.exists(path) else ' (not there yet)'}")
    if rows:
        print_table(("PROFILE", "SETTING", "VALUE"), rows)


def _shown(key: str, value: Any) -> Any:
    return HIDDEN if value is not None and is_secret(key, value) else plain(value)


@command.command("set")
@click.argument("key", shell_complete=complete_settings)
@click.argument("value")
@in_profile
def set_(key: str, value: str, profile: str | None) -> None:
    """Set KEY to VALUE, for every profile or for one.

    VALUE is text, or JSON if it begins with [, { or "; a list may also be written with commas. The secret is not
    accepted on the command line, where others could see it: 'gmp secret' makes one, and GMP_SECRET passes one to a process.
    """
    if key == "secret":
        raise Failure("a secret on the command line can be seen by others: use 'gmp secret', or set GMP_SECRET", USAGE)
    given = parse_argument(value)
    converted = convert(key, given, "argument")
    with editing(config_path(os.environ)) as document:
        set_value(_profile_table(document, profile), key, _for_toml(given, converted))


def _for_toml(given: Any, converted: Any) -> Any:
    """Return the value as the setting's type; the name of a file stays a name."""
    if isinstance(converted, float) and converted.is_integer():
        return int(converted)
    return given if isinstance(converted, str) else plain(converted)


@command.command()
@click.argument("key", shell_complete=complete_settings)
@in_profile
def unset(key: str, profile: str | None) -> None:
    """Remove KEY, for every profile or from one."""
    with editing(config_path(os.environ)) as document:
        found = _profile_table(document, profile)
        if key not in found:
            where = "the top of the file" if profile is None else f"profile {profile!r}"
            raise gmp.ConfigError(f"{key!r} is not set at {where}; there are: {', '.join(found) or 'none'}")
        del found[key]


def _profile_table(document: Any, profile: str | None) -> Any:
    if profile is None:
        return document
    found = table(document, ("profile", profile))
    if found is None:
        known = ", ".join(document.get("profile", {})) or "none"
        raise gmp.ConfigError(f"there is no profile {profile!r} (gmp config profile add {profile}); there are: {known}")
    return found


@command.group()
def profile() -> None:
    """Add and remove profiles, and change their parents."""


@profile.command()
@click.argument("name")
@click.option("--parent", metavar="NAME", shell_complete=complete_profiles, help="Its settings count too.")
def add(name: str, parent: str | None) -> None:
    """Add a profile."""
    with editing(config_path(os.environ)) as document:
        if table(document, ("profile", name)) is not None:
            raise gmp.ConfigError(f"there is a profile {name!r} already")
        entry = table(document, ("profile", name), make=True)
        if parent is not None:
            entry["parent"] = parent


@profile.command()
@click.argument("name", shell_complete=complete_profiles)
def remove(name: str) -> None:
    """Remove a profile, unless it is the parent of another one."""
    with editing(config_path(os.environ)) as document:
        _profile_table(document, name)
        children = [other for other, entry in document["profile"].items() if entry.get("parent") == name]
        if children:
            raise gmp.ConfigError(f"profile {name!r} is the parent of {', '.join(children)}: change that first")
        del document["profile"][name]


@profile.command("parent")
@click.argument("name", shell_complete=complete_profiles)
@click.argument("parent", required=False, shell_complete=complete_profiles)
@click.option("--none", is_flag=True, help="Let it have none.")
def parent_(name: str, parent: str | None, none: bool) -> None:
    """Show the parent of a profile, or make PARENT its parent."""
    if parent is None and not none:
        entry = read_config(config_path(os.environ)).profiles.get(name)
        if entry is None:
            raise gmp.ConfigError(f"there is no profile {name!r}")
        click.echo(entry.get("parent", ""))
        return
    if parent is not None and none:
        raise click.UsageError("give PARENT or --none, not both")
    with editing(config_path(os.environ)) as document:
        entry = _profile_table(document, name)
        if parent is not None:
            set_value(entry, "parent", parent)
        elif "parent" in entry:
            del entry["parent"]


@command.command()
def keys() -> None:
    """List the settings, their defaults and their environment variables."""
    rows = [(key, as_text(plain(value)), "GMP_" + key.upper()) for key, value in sorted(defaults().items())]
    print_table(("SETTING", "DEFAULT", "ENVIRONMENT"), rows)
