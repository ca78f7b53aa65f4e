"""The user's secret: a file of its own beside the configuration file, with mode 0600, made on first use.

It is linked into place, so that of several processes that start together all get the same one; it is replaced by a
rename, so that nobody reads half of one.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gmp.errors import ConfigError
from gmp.ids import ALPHABET

LENGTH = 43  # of 62 characters: 256 bits


def user_secret(path: Path) -> bytes:
    """This user's secret, made now when there is none. *Raises:* `ConfigError` naming the path and the way out."""
    try:
        if not path.exists():
            with _new_file(path) as temporary:
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    pass  # race: another process was faster; its secret is read by both
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"secret file {path} can be read by others: chmod 600 it, or set GMP_SECRET")
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"secret file {path}: {error}; mend that, or set GMP_SECRET") from error
    if not secret:
        raise ConfigError(f"secret file {path} is empty: remove it, or set GMP_SECRET")
    return secret


def replace_secret(path: Path) -> None:
    """Make a new secret in the place of the old one. *Raises:* `ConfigError`."""
    try:
        with _new_file(path) as temporary:
            os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(f"secret file {path}: {error}") from error


def fingerprint(secret: bytes) -> str:
    """What may be shown of a secret, to compare two of them."""
    digest = hashlib.sha3_256(b"gmp secret fingerprint\n" + secret).hexdigest()
    return f"{digest[:4]}-{digest[4:8]}"


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """A new secret under a temporary name, removed at the end when it is still there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write("".join(secrets.choice(ALPHABET) for _ in range(LENGTH)) + "\n")
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
