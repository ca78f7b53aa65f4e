"""Every exception that gmp raises, in one list.

`GmpError` is the root, so ``except gmp.GmpError`` catches every error that the library itself reports. Timeouts are
`TimeoutError` too, and `MessageError` is a `ValueError`, so code that knows nothing of gmp can treat them as what they are.
"""

from __future__ import annotations

from gmp.showing import show_reason


class GmpError(Exception):
    """The root of all errors that gmp raises; raised itself for misuse that has no class of its own."""


class ReceiveTimeout(GmpError, TimeoutError):
    """No matching message came within the time given to `Port.receive`; nothing was taken from the mailbox."""


class CallTimeout(GmpError, TimeoutError):
    """No reply came within the time given to `call`; a late reply is dropped."""


class WaitTimeout(GmpError, TimeoutError):
    """What `Group.wait` or `Node.wait_up` waited for did not happen in time."""


class PortDied(GmpError):
    """The port that was called or waited for is dead, died meanwhile, or cannot be reached.

    Attributes: `port`, its port ID, and `reason`, the tuple it died with (empty for a normal end).
    """

    def __init__(self, port: str, reason: tuple[object, ...]) -> None:
        super().__init__(port, reason)
        self.port = port
        self.reason = reason

    def __str__(self) -> str:
        if not self.reason:
            return f"port {self.port} ended normally"
        return f"port {self.port} died: {show_reason(self.reason)}"


class MessageError(GmpError, ValueError):
    """A message cannot travel: a value that does not serialise, or a message over the size limit."""


class ConfigError(GmpError):
    """A setting, an address or a name is not usable; the text names it and what was expected."""


class ProtocolError(GmpError):
    """The other side of a connection broke the protocol; the connection is closed."""


class AuthenticationError(ProtocolError):
    """The other side did not prove that it knows the secret, or no authentication method is shared."""


class NotAllowed(GmpError):
    """A peer asked for a function that this node does not allow it to call."""
