"""TCP socket options that this library sets and reads, where the system has them."""

from __future__ import annotations

import _socket
import socket
import struct

from gmp.net.heartbeat import Limits, TcpFigures

_RTO_MAX_MS = 44  # TCP_RTO_MAX_MS of Linux 6.15, not in the socket module
_INFO = getattr(socket, "TCP_INFO", None) if hasattr(socket, "SO_PRIORITY") else None  # Linux' layout only
_INFO_SIZE = 232
# struct tcp_info: state at 0, probes at 3, unacked at 24, last_data_sent at 44, last_ack_recv at 56, segs_in at 140,
# notsent at 144
_FIGURES = struct.Struct("=B2xB20xI16xI8xI80xII")
_ESTABLISHED = 1
_LOOPBACK_SEND_BUFFER = 256 * 1024
_ABORT = struct.pack("ii", 1, 0)


def set_up(sock: _socket.socket, limits: Limits) -> bool:
    """Have each write sent at once, and make the kernel notice a vanished host.

    Return whether its retries are bounded (see `heartbeat.Reach`).
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    keepalive = limits.keepalive
    for option, value in (("TCP_KEEPIDLE", keepalive), ("TCP_KEEPINTVL", keepalive), ("TCP_KEEPCNT", limits.probes)):
        number = getattr(socket, option, None)
        if number is not None:
            sock.setsockopt(socket.IPPROTO_TCP, number, value)
    if _INFO is None:
        return False
    try:
        sock.setsockopt(socket.IPPROTO_TCP, _RTO_MAX_MS, max(1000, min(120_000, int(limits.lost_after * 100))))
    except OSError:
        return False
    return True


def bound_send_buffer(sock: _socket.socket, size: int | None, *, near: bool) -> None:
    """Bound what waits in the kernel to about `size` bytes; None: bound it if `near` only (loopback, or a Unix socket).

    There more only costs: a buffer that grows puts each small message behind megabytes, and what is written falls out of
    the processor's cache before it is read. Over a long distance a bound would limit the throughput, so the kernel
    chooses there.
    """
    if size is None:
        if not near:
            return
        size = _LOOPBACK_SEND_BUFFER
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def read_figures(sock: _socket.socket) -> TcpFigures | None:
    """Return the kernel's figures of the connection; None where it has none: of Unix sockets. *Raises:* `OSError`."""
    if _INFO is None or sock.family == socket.AF_UNIX:
        return None
    data = sock.getsockopt(socket.IPPROTO_TCP, _INFO, _INFO_SIZE)
    if len(data) < _FIGURES.size:
        return None
    state, *figures = _FIGURES.unpack_from(data)
    return TcpFigures._make([*figures, state == _ESTABLISHED])


def abort_on_close(sock: _socket.socket) -> None:
    """Make `close` send a RST: the other side learns of the end though what was written cannot arrive."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
