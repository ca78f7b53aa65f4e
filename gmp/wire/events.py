"""The events that a session reports to the code that feeds it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Literal

from gmp.wire.greeting import Greeting


@dataclass(frozen=True)
class Greeted:
    """Both lines of the other side's greeting came. Nothing of it is proved yet."""

    greeting: Greeting
    tls_role: Literal["client", "server"] | None


@dataclass(frozen=True)
class Authenticated:
    """The other side's authentication line was right."""

    method: str
    framing: str
    refused: str = ""  #: why the other side will not have us, though it knows who we are


class _NeedData(enum.Enum):
    NEED_DATA = enum.auto()


NEED_DATA: Final = _NeedData.NEED_DATA  #: nothing more until `Session.receive_data` is called again
Event = Greeted | Authenticated | _NeedData
