"""The authentication line: how each side proves that it knows the secret (PROTOCOL.md section 4)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

HMAC_SHA3_512 = "hmac_sha3_512"
TLS_SHA3_512 = "tls_sha3_512"
CLEARTEXT = "cleartext"
TLS_ANON = "tls_anon"


def choose(accepted: Sequence[str], possible: Sequence[str]) -> str | None:
    """The first of what the other side accepts that we can do."""
    return next((method for method in accepted if method in possible), None)


def compute(method: str, secret: bytes, sender: tuple[bytes, bytes], receiver: tuple[bytes, bytes]) -> bytes:
    """The data field of the line: `sender` and `receiver` are their greeting lines and nonces."""
    text = b"".join(line + b"\n" for line in (*sender, *receiver))
    if method == HMAC_SHA3_512:
        return hmac.new(secret, text, hashlib.sha3_512).hexdigest().encode()
    if method == TLS_SHA3_512:
        return hashlib.sha3_512(text).hexdigest().encode()
    if method == CLEARTEXT:
        return secret.hex().encode()
    return b""


def verify(
    method: str, data: bytes, secret: bytes, sender: tuple[bytes, bytes], receiver: tuple[bytes, bytes]
) -> bool:
    """Whether `data` is right, compared in constant time."""
    return hmac.compare_digest(data, compute(method, secret, sender, receiver))
