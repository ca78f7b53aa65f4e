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
    """Show where the secret is, and its fingerprint; make one if there is none.

    All nodes of a network share one secret (or use certificates: 'gmp cert'). It is kept in a file of its own beside the
    configuration file, readable only by its owner; GMP_SECRET, or 'secret' in the configuration file, takes precedence.
    Two hosts have the same secret if the fingerprints are equal; copy the file to other hosts, for instance with scp. The
    secret is never accepted on the command line, where others could see it. After --new, running nodes keep the old one
    until they are restarted.
    """
    path = os.path.join(os.path.dirname(config_path(os.environ)), "secret")
    given, where = effective(None, os.environ)["secret"]
    if given is not None and new:
        raise gmp.ConfigError(f"the secret comes from {where}: a new file would not count")
    if new:
        replace_secret(path)
    secret = given if given is not None else user_secret(path)
    place = where if given is not None else path
    if as_json:
        print_json({"from": place, "fingerprint": fingerprint(secret), **({"secret": secret} if show else {})})
    elif show:
        click.echo(secret.decode("utf-8", "backslashreplace"))
    else:
        click.echo(f"{place}\nfingerprint {fingerprint(secret)}")
