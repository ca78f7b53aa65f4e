"""`gmp pair`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

import gmp
from gmp.cli.common.output import print_json
from gmp.config import convert
from gmp.configfile import config_path
from gmp.later import later
from gmp.secretfile import fingerprint, lan_path, replace_secret, save_secret, user_secret

if TYPE_CHECKING:
    from gmp.lan import pairing
else:
    pairing = later("gmp.lan.pairing")

SECTION = "Set up"
SHOWN, ASKED = 600.0, 30.0  # seconds


@click.command(short_help="Share a network's secret on a LAN.")
@click.argument("lan")
@click.argument("words", nargs=-1)
@click.option("--bind", metavar="ADDRESS", default="", help="Only at this address of this machine.  [default: at all]")
@click.option(
    "--timeout", type=click.FloatRange(min=1), help=f"Seconds to wait.  [default: {SHOWN:g}; with words {ASKED:g}]"
)
@click.option("--replace", is_flag=True, help="With words: take the secret in the place of the one that is here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(lan: str, words: tuple[str, ...], bind: str, timeout: float | None, replace: bool, as_json: bool) -> None:
    """Let another machine on this LAN have the secret of the network LAN, by six words that are typed there.

    \b
      gmp pair lab                         on a machine of the network, or the first: shows WORDS
      gmp pair lab WORD WORD WORD …        on the other one

    Then nodes of both find each other: gmp.configure(lan="lab"), or 'gmp config set lan lab'. The words are good for one
    machine, for ten minutes, and for three tries. Without WORDS, and without a secret here, it asks for them.

    Needs the extra 'lan' (zeroconf, spake2, mnemonic).
    """
    path = lan_path(os.path.dirname(config_path(os.environ)), convert("lan", lan, "argument LAN"))
    if not words and not os.path.exists(path) and sys.stdin.isatty():
        asked = f"The {pairing.WORDS} words that the other machine shows (nothing: begin {lan!r} here)"
        typed = click.prompt(asked, default="")
        words = tuple(typed.split())
    if words:
        if os.path.exists(path) and not replace:
            known = fingerprint(user_secret(path))
            raise gmp.ConfigError(f"there is a secret of {lan!r} here already, {path} (fingerprint {known}): --replace it")
        secret = pairing.ask(lan, pairing.check_words(words), timeout or ASKED, bind)
        (replace_secret if replace else save_secret)(path, secret.decode())
        _tell("paired", lan, secret, as_json)
        return
    secret = user_secret(path)
    shown = pairing.new_words()
    with pairing.Offer(lan, secret, shown, bind) as offer:
        if as_json:
            print_json({"lan": lan, "words": shown})
        else:
            click.echo(f"On the other machine, within {timeout or SHOWN:g} seconds:\n")
            click.echo(f"    gmp pair {lan} {' '.join(shown)}\n")
        machine = offer.wait(timeout or SHOWN)
    _tell(f"paired with {machine}", lan, secret, as_json)


def _tell(what: str, lan: str, secret: bytes, as_json: bool) -> None:
    if as_json:
        print_json({"done": what, "lan": lan, "fingerprint": fingerprint(secret)})
    else:
        click.echo(f"{what}; the secret of {lan!r} has the fingerprint {fingerprint(secret)} on both")
