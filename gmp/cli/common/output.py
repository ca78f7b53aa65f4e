"""How values are read from the command line and printed.

An argument that begins with ``[``, ``{`` or ``"`` is JSON, every other one is the text itself. What JSON cannot carry is
printed as its nearest: tuples and sets as lists, the rest as text. Bytes are text when they can be one, in UTF-8 or else,
as Perl's strings, in Latin-1; what has control characters in it is shown as hexadecimal digits.

What is printed comes from other programs, so it has no control characters: they could change the terminal.
"""

from __future__ import annotations

import json
from typing import Any

import click

from gmp.cli.common.show import safe

_NO_CONTROLS = dict.fromkeys(map(ord, "\t\n\r\xa0\xad"))  # what texts may have though it is not printable
LONGEST_INTEGER = 10_000  # bits: larger ones Python does not write in decimals


def parse_argument(text: str) -> Any:
    """The value an argument stands for. *Raises:* `click.BadParameter` for JSON that is none."""
    if text[:1] not in ("[", "{", '"'):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"{text!r} begins like JSON, but is none: {error}") from None


def parse_arguments(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[Any, ...]:
    """A click callback: `parse_argument` of each."""
    return tuple(parse_argument(text) for text in texts)


def plain(value: Any) -> Any:
    """`value` as JSON can carry it."""
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
    """`value` as one line of JSON; what is not printable is escaped, which is the same to whoever parses it."""
    text = json.dumps(plain(value), ensure_ascii=False)
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def as_text(value: Any) -> str:
    """`value` for people: texts as they are but for control characters, everything else as JSON."""
    if isinstance(value, bytes):
        value = _bytes_text(value)
    return safe(value) if isinstance(value, str) else as_json(value)


def as_words(values: Any) -> str:
    """A message or reason: its elements side by side."""
    return " ".join(as_text(value) for value in values)


def print_json(value: Any) -> None:
    """Print one line of JSON."""
    click.echo(as_json(value))
