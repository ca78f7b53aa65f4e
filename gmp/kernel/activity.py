"""What a port is doing now, read off its greenlets on demand; nothing is recorded while it runs."""

from __future__ import annotations

import os
from types import FrameType
from typing import Any

from gmp.ports.port import Port

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_GEVENT = f"{os.sep}gevent{os.sep}"


def runs(port: Port) -> str:
    """Such as ``count_words, at words.py:9``; empty for a port in which nothing runs."""
    return "; ".join(filter(None, (_task(greenlet) for greenlet in port.greenlets())))


def _task(greenlet: Any) -> str:
    frame: FrameType | None = greenlet.gr_frame
    place = name = ""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_OWN) and _GEVENT not in file:
            place = place or f"{os.path.basename(file)}:{frame.f_lineno}"
            name = frame.f_code.co_qualname  # the outermost function that is not ours is the body, or the handler
        frame = frame.f_back
    return f"{name}, at {place}" if place else ""
