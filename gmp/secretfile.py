"""The user's secret: a file of its own beside the configuration file, with mode 0600, made on first use.

It is linked into place, so that of several processes that start together all get the same one; it is replaced by a
rename, so that no reader sees half of one.

Whatever file holds a secret or a private key is refused when others may read or alter it, as ssh does. It must belong to the
user, or to root: who is root reads it anyway. A group may read one of root's, as an administrator's means put them (a
Kubernetes volume with ``fsGroup`` has 0440 and root as the owner, systemd's credentials have an access list that looks so);
only the owner may write it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from gmp.errors import ConfigError
from gmp.ids import ALPHABET
from gmp.later import later
from gmp.outside import chance

if TYPE_CHECKING:
    import hashlib
else:
    hashlib = later("hashlib")

AnyPath = str | os.PathLike[str]
ROOT = 0
LENGTH = 43  # of 62 characters: 256 bits


def user_secret(path: AnyPath) -> bytes:
    """This user's secret, made now when there is none. *Raises:* `ConfigError` naming the path and the way out."""
    try:
        if not os.path.exists(path):
            with _new_file(path) as temporary:
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    pass  # race: another process was faster; its secret is read by both
        with open(path, "rb") as file:
            check_private(file, f"secret file {path}", "or set GMP_SECRET")
            secret = file.read().strip()
    except OSError as error:
        raise ConfigError(f"secret file {path}: {error}; mend that, or set GMP_SECRET") from error
    if not secret:
        raise ConfigError(f"secret file {path} is empty: remove it, or set GMP_SECRET")
    return secret


def lan_path(folder: AnyPath, lan: str) -> str:
    """Where the secret of the network of that name on this LAN is; `folder` is that of the configuration file."""
    return os.path.join(folder, "lan", lan)


def lan_secret(folder: AnyPath, lan: str) -> bytes:
    """The secret of the network of that name on this LAN. *Raises:* `ConfigError` when there is none here."""
    path = lan_path(folder, lan)
    if not os.path.exists(path):
        raise ConfigError(
            f"lan {lan!r}: there is no secret of that network here, expected one in {path}: run 'gmp pair {lan}' on a"
            f" machine that is part of it (or on the first one), and here 'gmp pair {lan}' with the words that it shows"
        )
    return user_secret(path)


def check_private(file: IO[Any], what: str, otherwise: str) -> None:
    """Check that only the owner may read or alter a file. *Raises:* `ConfigError`: `what`, what is wrong, what to do."""
    status = os.fstat(file.fileno())
    owner, user = status.st_uid, os.geteuid()
    if owner not in (user, ROOT):
        raise ConfigError(f"{what} belongs to user {owner}, expected {user}, who runs this, or root: chown it, {otherwise}")
    if status.st_mode & (0o037 if owner == ROOT else 0o077):
        mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
        raise ConfigError(f"{what} can be read or written by others ({mode}): chmod 600 it, {otherwise}")


def replace_secret(path: AnyPath, secret: str | None = None) -> None:
    """Put `secret`, or a new one, in the place of the old one. *Raises:* `ConfigError`."""
    try:
        with _new_file(path, secret) as temporary:
            os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(f"secret file {path}: {error}") from error


def save_secret(path: AnyPath, secret: str) -> None:
    """Put `secret` where none is. *Raises:* `ConfigError`, also when there is one by now."""
    try:
        with _new_file(path, secret) as temporary:
            os.link(temporary, path)
    except FileExistsError:
        raise ConfigError(f"secret file {path} is there by now: it was made meanwhile, and is kept") from None
    except OSError as error:
        raise ConfigError(f"secret file {path}: {error}") from error


def fingerprint(secret: bytes) -> str:
    """What may be shown of a secret, to compare two of them."""
    digest = hashlib.sha3_256(b"gmp secret fingerprint\n" + secret).hexdigest()
    return f"{digest[:4]}-{digest[4:8]}"


@contextmanager
def _new_file(path: AnyPath, secret: str | None = None) -> Iterator[str]:
    """`secret`, or a new one, under a temporary name, removed at the end when it is still there."""
    text = secret or chance.secret_to_keep(ALPHABET, LENGTH)
    folder, name = os.path.split(path)
    os.makedirs(folder or ".", exist_ok=True, mode=0o700)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{chance.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
