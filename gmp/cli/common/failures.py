"""Errors of commands: one line on standard error and an exit code each."""

from __future__ import annotations

import logging

import click

import gmp
from gmp.cli.common.show import safe

FAILED, USAGE, UNREACHABLE, NO_ANSWER = 1, 2, 3, 4
EXIT_CODES = (
    "Exit codes: 0 done; 1 it failed, was refused or a fault was found; 2 wrong usage or configuration; 3 the network, node"
    " or port cannot be reached; 4 no answer in time; 130 interrupted (Ctrl-C); 143 ended by SIGTERM."
)


class Failure(click.ClickException):
    """An error that ends the command with its exit code."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__("\n".join(map(safe, message.split("\n"))))  # what other programs said may be a part of it
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it of the instance


class Unreachable(Failure):
    """The network, a node or a port cannot be reached."""

    def __init__(self, message: str) -> None:
        super().__init__(message, UNREACHABLE)


def hide_logs() -> None:
    """Hide gmp's log lines, unless logging is configured: the command itself says what went wrong."""
    logging.getLogger("gmp").addHandler(logging.NullHandler())


def as_click(error: Exception) -> Failure:
    """Return the `Failure` for an error of gmp or of the system."""
    code = FAILED
    if isinstance(error, gmp.ConfigError):
        code = USAGE
    elif isinstance(error, gmp.CallTimeout | gmp.ReceiveTimeout):
        code = NO_ANSWER
    elif isinstance(error, gmp.WaitTimeout):
        code = UNREACHABLE
    elif isinstance(error, gmp.PortDied):
        code = UNREACHABLE if error.reason[:1] in (("transport_error",), ("no_such_port",)) else FAILED
    return Failure(str(error) or type(error).__name__, code)
