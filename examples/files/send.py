"""Sends a file to a node that keeps files: python send.py FILE NODE."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

import gmp

PIECE = 256 * 1024
ANSWER = 64


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def show(done: int, size: int, began: float) -> None:
    percent, rate = 100 * done // max(size, 1), done / max(time.monotonic() - began, 1e-6) / 1e6
    print(f"\r{percent:3} % of {size / 1e6:.1f} MB, {rate:.0f} MB/s ", end="", file=sys.stderr, flush=True)


def send(node: gmp.Node, path: Path, node_id: str) -> str:
    """Send it, and return what the other node answers."""
    size = path.stat().st_size
    stream = node.open_stream(node_id, "store:receive", path.name, size, checksum(path))
    began, done = time.monotonic(), 0
    with path.open("rb") as file:
        while data := file.read(PIECE):
            stream.sendall(data)
            done += len(data)
            show(done, size, began)
    answer = b""
    while len(answer) < ANSWER and (data := stream.recv(ANSWER - len(answer))):
        answer += data
    stream.close()
    return answer.decode().strip() or "no answer"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("node")
    parser.add_argument("--seed", default="127.0.0.1:4040", help="a node to join through (default: %(default)s)")
    arguments = parser.parse_args()
    with gmp.configure(node_id="send/", seeds=[arguments.seed]) as node:
        try:
            answer = send(node, arguments.file, arguments.node)
        except (gmp.GmpError, OSError) as error:
            answer = str(error)
    print(f"\n{arguments.file.name}: {answer}")
    sys.exit(answer != "kept")
