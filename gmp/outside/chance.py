"""The one source of chance: everything in gmp that draws lots draws them here, as ``chance.random()``.

The first names are Python's generator, which a program may seed. The others are the system's, which nobody can foresee:
for names that must not be guessed, and for secrets. As with the clock, the names are looked up in this module each time.
"""

from __future__ import annotations

import os as _os
import random as _random
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

random: Callable[[], float] = _random.random  #: from 0 up to 1
shuffle: Callable[[MutableSequence[Any]], None] = _random.shuffle


def choice(values: Sequence[T]) -> T:
    """Return one of `values`."""
    return values[int(random() * len(values))]


_system = _random.SystemRandom()  # what `secrets` draws from, which imports OpenSSL for a name that is not used here
randbits: Callable[[int], int] = _system.getrandbits  #: so many unforeseeable bits
token_bytes: Callable[[int], bytes] = _os.urandom


def token_hex(count: int) -> str:
    """Return the digits of `count` unforeseeable bytes, twice as many."""
    return token_bytes(count).hex()


def characters(alphabet: str, count: int) -> str:
    """Return `count` unforeseeable characters of `alphabet`."""
    return "".join(alphabet[_below(len(alphabet))] for _ in range(count))


def secret_to_keep(alphabet: str, count: int) -> str:
    """As `characters`, for a secret that is kept in a file: never of numbers that somebody could draw again."""
    return "".join(_system.choice(alphabet) for _ in range(count))


def _below(limit: int) -> int:
    """Return an unforeseeable number from 0 up to `limit`, each as likely."""
    while True:
        number = randbits(limit.bit_length())
        if number < limit:
            return number
