"""`gmp dashboard`."""

from __future__ import annotations

import os

import click

from gmp.cli.common.access import Access, with_access
from gmp.cli.common.failures import USAGE, Failure
from gmp.config import parse_bind

SECTION = "Look at a network"
TOKEN = "GMP_DASHBOARD_TOKEN"


@click.command(short_help="Show the network live in the browser.")
@click.option("--bind", default="127.0.0.1:4080", show_default=True, metavar="HOST:PORT", help="Where the page is served.")
@click.option("--no-token", is_flag=True, help="On loopback: let in every user and program of this machine.")
@with_access(timeout=10.0, json=False)
def command(access: Access, bind: str, no_token: bool) -> None:
    """Show the network as a live picture in the browser, until Ctrl-C.

    Prints the page's address, which contains a token: GMP_DASHBOARD_TOKEN from the environment, or a new one. Without a
    token, other users of this machine could read the page through loopback. The page is read-only and served over plain
    HTTP: where you do not trust the path, put a server with TLS in front of it.
    """
    import secrets

    from gevent.pywsgi import WSGIServer

    from gmp.services.dashboard import Dashboard

    address = parse_bind(bind)
    if no_token and not is_loopback(address.host):
        raise Failure(f"--no-token is for loopback only, and {bind} is not", USAGE)
    token = None if no_token else os.environ.get(TOKEN) or secrets.token_urlsafe(18)
    with access.join() as node:
        dashboard = Dashboard(token=token, node=node)
        host = "" if address.host == "*" else address.host
        server = WSGIServer((host, address.port), dashboard, log=None)
        server.start()
        try:
            click.echo(f"http://{shown(address.host, int(server.address[1]))}/{f'?token={token}' if token else ''}")
            server.serve_forever()
        finally:
            dashboard.close()
            server.stop(timeout=1)


def is_loopback(host: str) -> bool:
    """True if only this machine can reach `host`."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shown(host: str, port: int) -> str:
    """Return the address to open in a browser."""
    name = os.uname().nodename if host == "*" else host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
