"""In which ways a gmp node and a Perl node may be connected: who dials whom, how they talk, and whether there is TLS."""

from __future__ import annotations

from typing import Any

import pytest

from .certificates import self_signed

CERT = self_signed()
PLAIN: dict[str, Any] = {"secret": "geheim"}
TLS: dict[str, Any] = {"secret": None, "cert": CERT}
#: parameters for a fixture: "dials" or "dialled", which is what the Perl node does, the framing, and what both are made with
LINKS = [
    pytest.param((role, framing, security), id=f"{role}-{framing}-{'tls' if 'cert' in security else 'plain'}")
    for role in ("dials", "dialled")
    for framing in ("json", "cbor")
    for security in (PLAIN, TLS)
]
