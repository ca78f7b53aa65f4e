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


class RemoteError(GmpError):
    """A method of a service raised an exception that is not declared on both sides; the service lives on.

    Attributes: `type_name`, the exception's type; `text`, its text; `arguments`, those of its arguments that can travel;
    `traceback`, its traceback over there, as text; `service`, the port that was called, and `method`, what was called there.
    Its cause shows that traceback.
    """

    def __init__(
        self, type_name: str, text: str, arguments: tuple[object, ...], traceback: str, service: str, method: str
    ) -> None:
        super().__init__(type_name, text, arguments, traceback, service, method)
        self.type_name = type_name
        self.text = text
        self.arguments = arguments
        self.traceback = traceback
        self.service = service
        self.method = method

    def __str__(self) -> str:
        return f"{self.method} of {self.service}: {self.type_name}: {self.text}"


class CallRefused(GmpError):
    """A service did not begin a call.

    Attributes: `service`, its port, and `kind`: ``"busy"``, as many calls or streams as it takes wait or run already;
    ``"no_method"``; ``"cycle"``, the call would wait for itself; ``"leaving"``, its node leaves the network;
    ``"not_idempotent"``, it was to be retried; ``"malformed"``.
    """

    def __init__(self, service: str, kind: str, text: str) -> None:
        super().__init__(service, kind, text)
        self.service = service
        self.kind = kind
        self.text = text

    def __str__(self) -> str:
        return f"service {self.service} refused: {self.text}"
