"""`gmp secret`."""

from __future__ import annotations

import os

import click

import gmp
from gmp.cli.common.output import print_json
from gmp.config import effective
from gmp.configfile import config_path
from gmp.secretfile import fingerprint, replace_secret, user_secret

SECTION = "Set up"


@click.command(short_help="Show, make or replace the secret.")
@click.option("--new", is_flag=True, help="Make a new one in the place of the old one.")
@click.option("--show", is_flag=True, help="Print the secret itself.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(new: bool, show: bool, as_json: bool) -> None:
    """Show where the secret is, and its fingerprint; make it when there is none.

    All nodes of a network have the same secret (or certificates: 'gmp cert'). It is a file of its own, readable by its owner
    only, beside the configuration file; GMP_SECRET, or 'secret' in the configuration file, count before it. Two hosts have
    the same secret when the fingerprints are equal; copy the file to others, by scp for instance. It is never taken from
    the command line, where others could see it. With --new, nodes that run keep the old one until they are started again.
    """
    path = config_path(os.environ).parent / "secret"
    given, where = effective(None, os.environ)["secret"]
    if given is not None and new:
        raise gmp.ConfigError(f"the secret comes from {where}: a new file would not count")
    if new:
        replace_secret(path)
    secret = given if given is not None else user_secret(path)
    place = where if given is not None else str(path)
    if as_json:
        print_json({"from": place, "fingerprint": fingerprint(secret), **({"secret": secret} if show else {})})
    elif show:
        click.echo(secret.decode("utf-8", "backslashreplace"))
    else:
        click.echo(f"{place}\nfingerprint {fingerprint(secret)}")
