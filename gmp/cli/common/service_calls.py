"""Services on the command line: how arguments are read, and what a group or a port is known to be."""

from __future__ import annotations

import json
from typing import Any

import click

import gmp
from gmp.cli.common.output import as_text, print_json
from gmp.exposing import SERVICE


def is_service(value: Any) -> bool:
    """Whether the value of a group's member says that it is a service."""
    return isinstance(value, dict) and not SERVICE.keys() - value.keys()


def read_arguments(texts: tuple[str, ...]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments: ``NAME=VALUE`` is a keyword's; what reads as JSON is that, all else text.

    *Raises:* `click.BadParameter` for a positional argument behind a keyword's.
    """
    args: list[Any] = []
    keywords: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name.isidentifier():
            keywords[name] = _value(value)
        elif keywords:
            raise click.BadParameter(f"{text!r} stands behind NAME=VALUE: positional arguments come first")
        else:
            args.append(_value(text))
    return args, keywords


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def call_method(service: gmp.Remote, words: tuple[str, ...], timeout: float, *, as_json: bool) -> None:
    """Call the method that is the first of `words`, and print its result; of a stream, an item a line."""
    if not words or words[0].startswith("__"):
        raise click.UsageError("which method? 'gmp inspect' lists those of a service")
    args, keywords = read_arguments(words[1:])
    method = getattr(service, words[0])
    result = method.call(*args, timeout=timeout, **keywords)
    for item in result if isinstance(result, gmp.RemoteStream) else [result]:
        if as_json:
            print_json(item)
        else:
            click.echo(as_text(item))
