"""A node that keeps files: python -m store FOLDER, so that its module has that name. Its function `receive` gets each
file over a stream of its own."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import gmp

PIECE = 256 * 1024
ANSWER = 64  # bytes, padded
folder = Path()


def receive(name: str, size: int, digest: str, stream: Any) -> None:
    """Called for a stream that another node has opened: `size` bytes come, one answer goes back."""
    if Path(name).name != name or name.startswith("."):
        answer(stream, "refused: that is no file name")
        return
    temporary = folder / f".{name}.{os.urandom(6).hex()}"
    found, left = hashlib.sha256(), size
    try:
        with temporary.open("xb") as file:
            while left and (data := stream.recv(min(PIECE, left))):
                file.write(data)
                found.update(data)
                left -= len(data)
    except ConnectionResetError:
        print(f"{name}: cut off, {left} bytes are missing", flush=True)
    else:
        if left:
            print(f"{name}: {left} bytes are missing", flush=True)
        elif found.hexdigest() != digest:
            answer(stream, "refused: the checksum differs")
        else:
            temporary.rename(folder / name)
            print(f"{name}: {size} bytes", flush=True)
            answer(stream, "kept")
    finally:
        temporary.unlink(missing_ok=True)
        stream.close()


def answer(stream: Any, text: str) -> None:
    stream.sendall(text.encode().ljust(ANSWER))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--node-id", default="store")
    parser.add_argument("--bind", default="127.0.0.1:4040", help="where to listen (default: %(default)s)")
    arguments = parser.parse_args()
    folder = arguments.folder
    if not folder.is_dir():
        sys.exit(f"{folder} is no folder")
    node = gmp.configure(node_id=arguments.node_id, binds=[arguments.bind], allow=["store"])
    print(f"{node.id} keeps files in {folder}, at {node.binds[0]}", flush=True)
    gmp.serve_forever()
