"""The authentication line: how each side proves that it knows the secret (PROTOCOL.md section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmp.later import later

if TYPE_CHECKING:
    import hashlib
    import hmac
else:
    hashlib, hmac = later("hashlib"), later("hmac")

HMAC_SHA3_512 = "hmac_sha3_512"
TLS_SHA3_512 = "tls_sha3_512"
CLEARTEXT = "cleartext"
TLS_ANON = "tls_anon"
REFUSED = b"refused"  #: no method: the text in its place says why there is no authentication line


def sendable(*, secret: bool, tls: bool) -> tuple[str, ...]:
    """What we prove ourselves with. TLS first: Perl closes when it finds hmac_sha3_512 before it under TLS."""
    return ((TLS_SHA3_512,) if tls else ()) + ((HMAC_SHA3_512,) if secret else ())


def accepted_only(*, cleartext: bool, anonymous: bool) -> tuple[str, ...]:
    """What we never send and accept when the user has switched it on."""
    return ((TLS_ANON,) if anonymous else ()) + ((CLEARTEXT,) if cleartext else ())


def needs_tls(method: str) -> bool:
    """Whether the method proves nothing without TLS below it."""
    return method.startswith("tls_")


def needs_secret(method: str) -> bool:
    """Whether a wrong line means a wrong secret."""
    return method in (HMAC_SHA3_512, CLEARTEXT)


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
