"""Edits the configuration file: keeps comments and order (tomlkit), and loses nothing.

An edit reads the file, changes it, checks that the result is valid as a whole, and replaces the old file by a rename. A
file that cannot be read is left as it is. Simultaneous edits run one after the other: each holds a lock on the folder
from reading to writing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gmp
from gmp.cli.common.failures import Failure
from gmp.config import check_file
from gmp.configfile import parse_config, read_config

NEW_MODE = 0o600


@contextmanager
def editing(given: str | os.PathLike[str]) -> Iterator[Any]:
    """Yield the file as a tomlkit document; write its changes at the end, unless the block raises.

    *Raises:* `ConfigError` for a file that cannot be read or written, or a result that is not valid.
    """
    tomlkit = _tomlkit()
    path = Path(os.path.realpath(given))  # behind a symbolic link: the rename must not replace the link
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise gmp.ConfigError(f"config file {path}: {error}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        before = read_config(path)
        document = tomlkit.parse(before.text)
        yield document
        after = tomlkit.dumps(document)
        if after != before.text:
            try:
                check_file(parse_config(path, after))
            except gmp.ConfigError:
                check_file(before)  # was it wrong before? Then tell the line that the user sees
                raise
            _write(path, after)
    finally:
        os.close(folder)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else NEW_MODE
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, NEW_MODE)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise gmp.ConfigError(f"config file {path}: {error}") from error


def table(document: Any, keys: Sequence[str], *, make: bool = False) -> Any:
    """Return the table at `keys`; None if it is missing and is not to be made."""
    tomlkit = _tomlkit()
    found = document
    for index, key in enumerate(keys):
        if key not in found:
            if not make:
                return None
            found[key] = tomlkit.table(is_super_table=index < len(keys) - 1)
        found = found[key]
    return found


def set_value(table: Any, key: str, value: Any) -> None:
    """Set a value, and keep the comment behind the old one."""
    item = _tomlkit().item(value)
    if key in table:
        old = table.item(key) if hasattr(table, "item") else table[key]
        item.trivia.comment_ws, item.trivia.comment = old.trivia.comment_ws, old.trivia.comment
    table[key] = item


def _tomlkit() -> Any:
    try:
        import tomlkit
    except ImportError:
        raise Failure("editing the configuration file needs tomlkit: install gevent-mp[cli]") from None
    return tomlkit
