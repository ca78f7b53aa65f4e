"""A gmp node of a mixed network, for `tests.mixed_network`: ``python -m tests.mixed_child NODE_ID BIND SEED …``.

The first line of standard input is a JSON object: `groups`, those that its port is in, and `watched`, those that it
monitors. It prints its port's ID. Each further line is answered by a line with the groups as its monitors have seen them, in
JSON. It leaves the network when standard input ends.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import gevent

import gmp


def main(node_id: str, bind: str, *seeds: str) -> None:
    read = gevent.get_hub().threadpool.apply
    node = gmp.configure(node_id=node_id, binds=[bind], seeds=seeds)
    setup = json.loads(read(sys.stdin.readline))
    port = gmp.port()
    for name in setup["groups"]:
        node.group(name).join(port)
    seen: dict[str, list[str]] = {}
    for name in setup["watched"]:
        node.group(name).monitor(_keep(seen, name))
    print(json.dumps(port.id), flush=True)
    while read(sys.stdin.readline):
        print(json.dumps(seen), flush=True)
    node.close()


def _keep(seen: dict[str, list[str]], name: str) -> Callable[..., None]:
    def keep(members: Mapping[str, Any], *_: object) -> None:
        seen[name] = sorted(members)

    return keep


if __name__ == "__main__":
    main(*sys.argv[1:])
