"""The events that a session reports to the code that feeds it."""

from __future__ import annotations

import enum
from typing import Final, Literal, NamedTuple

from gmp.wire.greeting import Greeting


class Greeted(NamedTuple):
    """Both lines of the other side's greeting came. Nothing of it is proved yet."""

    greeting: Greeting
    tls_role: Literal["client", "server"] | None


class Authenticated(NamedTuple):
    """The other side's authentication line was right."""

    method: str
    framing: str
    refused: str = ""  #: why the other side will not have us, though it knows who we are


class _NeedData(enum.Enum):
    NEED_DATA = enum.auto()


NEED_DATA: Final = _NeedData.NEED_DATA  #: nothing more until `Session.receive_data` is called again
Event = Greeted | Authenticated | _NeedData
