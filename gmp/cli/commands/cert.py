"""`gmp cert`."""

from __future__ import annotations

import os
from pathlib import Path

import click

import gmp
from gmp.cli.common.output import print_json
from gmp.cli.common.show import print_table
from gmp.config import convert
from gmp.configfile import config_path

SECTION = "Set up"
AUTHORITY_DAYS, NODE_DAYS = 3650, 825
authority_option = click.option(
    "--ca", "authority", type=click.Path(dir_okay=False, path_type=Path),
    help="The authority's file.  [default: ca.pem beside the configuration file]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
force_option = click.option("--force", is_flag=True, help="Replace what is there.")


def _authority_path(given: Path | None) -> Path:
    return given or Path(config_path(os.environ)).parent / "ca.pem"


@click.group(short_help="Make certificates for TLS.")
def command() -> None:
    """Make a private authority, and a certificate for each node.

    With certificates, nodes talk by TLS and need no secret. 'gmp cert new NODE' makes one file with all that a node needs
    (its key, its certificate, the authority's certificate): copy it to that node, mode 0600, and give its path as the
    setting 'cert'. The authority's own file, ca.pem, stays here: whoever has it can issue certificates.

    \b
      gmp cert new seed1 worker/
      gmp config set -p worker cert ~/.config/gmp/worker_.pem

    Needs the extra 'tls' (cryptography).
    """


@command.command("ca")
@authority_option
@click.option("--days", default=AUTHORITY_DAYS, show_default=True, type=click.IntRange(1, 36500), help="Validity.")
@force_option
@json_option
def ca(authority: Path | None, days: int, force: bool, as_json: bool) -> None:
    """Make the authority ('new' does this if there is none yet)."""
    from gmp.cli.certificates import make_authority, write_private

    path = _authority_path(authority)
    write_private(path, make_authority(days), replace=force)
    _tell([path], as_json)


@command.command()
@click.argument("nodes", nargs=-1, required=True)
@authority_option
@click.option("--days", default=NODE_DAYS, show_default=True, type=click.IntRange(1, 36500), help="Validity.")
@click.option(
    "-d", "--directory", type=click.Path(file_okay=False, path_type=Path),
    help="Where the files go.  [default: beside the configuration file]",
)
@click.option("--seed", is_flag=True, help="Mark them as seeds: they may keep the directory, and relay for others.")
@force_option
@json_option
def new(
    nodes: tuple[str, ...], authority: Path | None, days: int, directory: Path | None, seed: bool, force: bool, as_json: bool
) -> None:
    """Make a certificate for each of NODES, and print the files.

    A node ID that ends in / covers all IDs that begin with it (those with a random part).
    """
    from gmp.cli.certificates import Authority, make_authority, write_private

    path = _authority_path(authority)
    for node_id in nodes:
        convert("node_id", node_id, "argument")
    if not path.exists():
        try:
            write_private(path, make_authority(AUTHORITY_DAYS), replace=False)
        except gmp.ConfigError:
            if not path.exists():
                raise  # race: else another process was faster
    signer = Authority.load(path)
    made = []
    for node_id in nodes:
        made.append((directory or path.parent) / f"{node_id.replace('/', '_')}.pem")
        write_private(made[-1], signer.issue(node_id, days, seed=seed), replace=force)
    _tell(made, as_json)


def _tell(paths: list[Path], as_json: bool) -> None:
    if as_json:
        print_json([str(path) for path in paths])
    else:
        for path in paths:
            click.echo(str(path))


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def show(files: tuple[Path, ...], as_json: bool) -> None:
    """Show which nodes the certificates in FILES name, who signed them and how long they are valid."""
    from gmp.cli.certificates import read_certificates

    rows = []
    for path in files:
        try:
            found = read_certificates(path.read_bytes())
        except ValueError as error:
            raise gmp.ConfigError(f"{path}: expected a PEM text with certificates: {error}") from None
        rows += [
            (path, " ".join(seen.names), seen.issuer, f"{seen.ends:%Y-%m-%d}", f"{seen.days_left:.0f}", seen.fingerprint)
            for seen in found
        ]
    columns = ("FILE", "NAMES", "SIGNED BY", "VALID UNTIL", "DAYS", "SHA-256")
    if as_json:
        keys = [column.lower().replace(" ", "_") for column in columns]
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)
