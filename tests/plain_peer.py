"""A peer of a few lines that is no gmp node: plain socket, HMAC login, JSON; what a Perl node looks like on the wire."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from typing import Any

import gevent
import gevent.socket


class PlainPeer:
    """Dials a gmp node and is up when made."""

    def __init__(self, node_id: str, bind: str, secret: str = "geheim") -> None:
        self.node_id = node_id
        self.received: list[list[Any]] = []
        self._text = ""
        host, _, port = bind.rpartition(":")
        self._socket = gevent.socket.create_connection((host, int(port)), timeout=20)
        self._file = self._socket.makefile("rb")
        nonce = secrets.token_urlsafe(60)
        mine = f"aemp;1;{node_id};hmac_sha3_512;json;provider=AE-2.02\n{nonce}\n".encode()
        self._socket.sendall(mine)
        theirs = self._file.readline() + self._file.readline()
        proof = hmac.new(secret.encode(), mine + theirs, hashlib.sha3_512).hexdigest()
        self._socket.sendall(f"hmac_sha3_512;{proof};json\n".encode())
        answer = self._file.readline().decode().split(";")
        assert answer[1] == hmac.new(secret.encode(), theirs + mine, hashlib.sha3_512).hexdigest()

    def send(self, *message: Any) -> None:
        """Send a message: the local port name first."""
        self._socket.sendall(json.dumps(message).encode())

    def receive(self, *prefix: Any, timeout: float = 20.0) -> list[Any]:
        """The next message that begins so, without that; others are kept in `received`."""
        with gevent.Timeout(timeout, AssertionError(f"nothing like {prefix} came, but {self.received}")):
            while True:
                for message in self.received:
                    if message[: len(prefix)] == list(prefix):
                        self.received.remove(message)
                        return message[len(prefix) :]
                self._read()

    def barrier(self) -> None:
        """What the node had sent before it answers is in `received` afterwards."""
        self.send("", "snd", f"{self.node_id}#barrier")
        self.receive("barrier")

    def _read(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise AssertionError("the gmp node closed the connection")
        self._text += data.decode()
        while self._text:
            try:
                message, end = json.JSONDecoder().raw_decode(self._text)
            except ValueError:
                return
            self._text = self._text[end:].lstrip()
            self.received.append(message)

    def close(self) -> None:
        """Vanish."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> PlainPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
