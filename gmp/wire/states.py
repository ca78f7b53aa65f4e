"""The states of a handshake, and what may happen in each. Everything that affects the state machine lives here.

GREETING --greeted--> GREETED --tls--> SECURE --authenticated--> DATA, where GREETED is skipped without TLS. The own
authentication line may go out in SECURE and DATA, whenever the owner asks for it; that is not a state of its own, as the
other side's line may come before or after it. Any error leads to ERROR, for ever.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where a handshake stands."""

    GREETING = "greeting"  #: the other side's two lines are awaited
    GREETED = "greeted"  #: TLS was agreed on and is to be set up
    SECURE = "secure"  #: the other side's authentication line is awaited
    DATA = "data"  #: messages
    ERROR = "error"


class Step(enum.Enum):
    """What moves a handshake on."""

    GREETED = "greeted"
    GREETED_FOR_TLS = "greeted_for_tls"
    TLS_STARTED = "tls_started"
    AUTHENTICATED = "authenticated"
    FAILED = "failed"


TRANSITIONS: dict[tuple[State, Step], State] = {
    (State.GREETING, Step.GREETED): State.SECURE,
    (State.GREETING, Step.GREETED_FOR_TLS): State.GREETED,
    (State.GREETED, Step.TLS_STARTED): State.SECURE,
    (State.SECURE, Step.AUTHENTICATED): State.DATA,
    **{(state, Step.FAILED): State.ERROR for state in State},
}
