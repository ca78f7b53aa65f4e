"""How the measured gmp nodes are set up: defaults, with a secret (HMAC), or with TLS when ``GMP_BENCH_TLS`` names a folder
with ``node.pem``."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.programs.measure import MIB
from gmp.config import defaults


def settings() -> dict[str, Any]:
    """The settings that all nodes of a run share."""
    known: dict[str, Any] = {"max_message": 128 * MIB}  # for the largest message of W4b; nothing else comes near its limit
    folder = os.environ.get("GMP_BENCH_TLS")
    if folder:
        return {**known, "cert": os.path.join(folder, "node.pem")}
    known["secret"] = "measured side by side"
    if "reached_at" in defaults():  # gmp@COMMIT may be older than the setting
        known["reached_at"] = ["*"]  # the throttle of W10 stands before the far node
    return known
