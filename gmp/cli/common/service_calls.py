"""Services on the command line: parses arguments, and finds out whether a group or port is a service."""

from __future__ import annotations

import json
from typing import Any

import click

import gmp
from gmp.cli.common.output import as_text, print_json


def is_service(value: Any) -> bool:
    """True if the value of a group's member marks it as a service."""
    from gmp.exposing import SERVICE

    return isinstance(value, dict) and not SERVICE.keys() - value.keys()


def read_arguments(texts: tuple[str, ...]) -> tuple[list[Any], dict[str, Any]]:
    """Return positional and keyword arguments: ``NAME=VALUE`` is a keyword argument; JSON is parsed, all else is text.

    *Raises:* `click.BadParameter` for a positional argument after a keyword argument.
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
    """Call the method named by the first of `words`, and print its result; the items of a stream one per line."""
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
