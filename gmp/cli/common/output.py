"""Reads values from the command line, and prints them.

An argument that begins with ``[``, ``{`` or ``"`` is JSON; any other is plain text. What JSON cannot represent is
printed as the nearest thing: tuples and sets as lists, the rest as text. Bytes are printed as text if they decode as UTF-8
or else, as Perl's strings do, as Latin-1; those with control characters are shown as hexadecimal digits.

The values come from other programs, so control characters are removed before printing: they could change the terminal.
"""

from __future__ import annotations

import json
from typing import Any

import click

from gmp.cli.common.show import safe

_NO_CONTROLS = dict.fromkeys(map(ord, "\t\n\r\xa0\xad"))  # what texts may have though it is not printable
LONGEST_INTEGER = 10_000  # bits: larger ones Python does not write in decimals


def parse_argument(text: str) -> Any:
    """Return the value of an argument. *Raises:* `click.BadParameter` for JSON that does not parse."""
    if text[:1] not in ("[", "{", '"'):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"{text!r} begins like JSON, but is none: {error}") from None


def parse_arguments(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[Any, ...]:
    """Parse each argument, as a click callback."""
    return tuple(parse_argument(text) for text in texts)


def plain(value: Any) -> Any:
    """Return `value` in a form that JSON can represent."""
    if isinstance(value, int) and value.bit_length() > LONGEST_INTEGER:
        return hex(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, bytes):
        return _bytes_text(value)
    if isinstance(value, dict):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    return str(value)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else _bytes_text(key) if isinstance(key, bytes) else str(plain(key))


def _bytes_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
        return text if text.translate(_NO_CONTROLS).isprintable() else value.hex()


def as_json(value: Any) -> str:
    """Return `value` as one line of JSON; unprintable characters are escaped, which parses to the same value."""
    text = json.dumps(plain(value), ensure_ascii=False)
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def as_text(value: Any) -> str:
    """Return `value` for people to read: text without control characters, everything else as JSON."""
    if isinstance(value, bytes):
        value = _bytes_text(value)
    return safe(value) if isinstance(value, str) else as_json(value)


def as_words(values: Any) -> str:
    """Return a message or reason as one line: its elements side by side."""
    return " ".join(as_text(value) for value in values)


def print_json(value: Any) -> None:
    """Print one line of JSON."""
    click.echo(as_json(value))
